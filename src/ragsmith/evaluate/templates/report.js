"use strict";
{
  // All text of the data enters the page by textContent and by attributes that hold plain values, never as markup.
  const data = JSON.parse(document.getElementById("table").textContent);
  const columns = data.columns;
  const total = columns.id.length;
  const PAGE = 50;
  const $ = (id) => document.getElementById(id);

  const make = (tag, options = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(options)) {
      if (name === "text") element.textContent = value;
      else if (name === "class") element.className = value;
      else element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  };
  const drawing = (tag, attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    return element;
  };
  const decimals = (value, digits = 2) => (value === null || value === undefined ? "–" : value.toFixed(digits));
  const known = (value) => value !== null && value !== undefined;

  // What the table shows: a title, the text of a cell, and what it is sorted by (null comes last either way).
  const table = [
    { title: "Question", text: (row) => columns.query[row] || columns.id[row], sort: (row) => columns.query[row] || null },
    { title: "Expected", text: (row) => columns.expected[row].join(" | "), sort: (row) => columns.expected[row][0] ?? null },
    { title: "Answer", text: (row) => columns.answer[row], sort: (row) => columns.answer[row] || null },
    {
      title: "EM",
      number: true,
      text: (row) => (known(columns.em[row]) ? (columns.em[row] >= 1 ? "✓" : "✗") : ""),
      sort: (row) => columns.em[row],
    },
    { title: "F1", number: true, text: (row) => (known(columns.f1[row]) ? decimals(columns.f1[row]) : ""), sort: (row) => columns.f1[row] },
  ];
  if (columns.score) {
    table.push({ title: "Confidence", number: true, text: (row) => decimals(columns.score[row]), sort: (row) => columns.score[row] });
  }
  for (const system of data.ranks) {
    table.push({
      title: system.name,
      number: true,
      text: (row) => (known(system.values[row]) ? String(system.values[row]) : "–"),
      sort: (row) => system.values[row],
    });
  }

  // ---- What is shown: filters, search, order, page ----------------------------------------------------------------
  const filters = new Map(); // name -> its select
  const tests = new Map(); // name -> (row, value) => whether the row stays

  const addFilter = (name, label, groups, test) => {
    const select = make("select", { id: `filter-${name}` }, make("option", { value: "", text: "all" }));
    for (const [group, options] of groups) {
      const parent = group === null ? select : select.appendChild(make("optgroup", { label: group }));
      for (const [value, text] of options) parent.append(make("option", { value, text }));
    }
    $("filters").append(make("label", { text: `${label} ` }, select));
    filters.set(name, select);
    tests.set(name, test);
    select.addEventListener("change", () => update());
  };

  addFilter("em", "Answer", [[null, [["right", "right"], ["wrong", "wrong"]]]], (row, value) =>
    known(columns.em[row]) && columns.em[row] >= 1 === (value === "right"));
  if (columns.category) {
    const present = new Set(columns.category);
    const options = data.categories.filter(([key]) => present.has(key));
    // Where nobody judged any question there is nothing to choose.
    if (options.length) addFilter("category", "What went wrong", [[null, options]], (row, value) => columns.category[row] === value);
  }
  if (data.ranks.length > 1) {
    // Position of the two systems and what is asked of them, such as "1 0 better".
    const groups = [];
    data.ranks.forEach((one, a) => {
      const options = [];
      data.ranks.forEach((other, b) => {
        if (a !== b) options.push([`${a} ${b} better`, `${one.name} better than ${other.name}`]);
        if (a < b) options.push([`${a} ${b} same`, `${one.name} same as ${other.name}`]);
      });
      groups.push([one.name, options]);
    });
    addFilter("ranks", "Rank", groups, (row, value) => {
      const [a, b, outcome] = value.split(" ");
      const left = data.ranks[a].values[row] ?? Infinity;
      const right = data.ranks[b].values[row] ?? Infinity;
      return outcome === "better" ? left < right : left === right;
    });
  }
  if (data.slices.length) {
    const groups = data.slices.map(({ name, values }) => {
      const counts = new Map();
      for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
      const sorted = [...counts].sort((a, b) => b[1] - a[1]);
      return [name.replaceAll("_", " "), sorted.map(([value, count]) => [`${name}\n${value}`, `${value} (${count})`])];
    });
    const byName = new Map(data.slices.map(({ name, values }) => [name, values]));
    addFilter("slice", "Slice", groups, (row, value) => {
      const end = value.indexOf("\n");
      return byName.get(value.slice(0, end))?.[row] === value.slice(end + 1);
    });
  }

  let words = null;
  const searched = (row) => {
    // Made when first needed: lower case of ten thousand questions takes longer than showing the page.
    words ??= columns.id.map((id, at) =>
      [id, columns.query[at], ...columns.expected[at], columns.answer[at], ...data.read[at].map(([place]) => data.passages.titles[place])]
        .join("\n")
        .toLowerCase());
    return words[row];
  };

  const state = { order: null, direction: 1, page: 0, rows: [] };
  const everything = Array.from({ length: total }, (_, row) => row);

  const compare = (left, right) => {
    if (!known(left) || !known(right)) return known(right) - known(left);
    return state.direction * (typeof left === "number" ? left - right : collator.compare(left, right));
  };
  const collator = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

  const update = () => {
    const wanted = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const active = [...filters].filter(([, select]) => select.value !== "");
    state.rows = everything.filter(
      (row) =>
        active.every(([name, select]) => tests.get(name)(row, select.value)) &&
        (!wanted.length || wanted.every((word) => searched(row).includes(word))),
    );
    if (state.order !== null) {
      const { sort } = table[state.order];
      state.rows.sort((a, b) => compare(sort(a), sort(b)) || a - b);
    }
    state.page = 0;
    const narrowed = wanted.length || active.length;
    $("count").textContent = narrowed
      ? `${state.rows.length.toLocaleString("en")} of ${total.toLocaleString("en")} queries`
      : `${total.toLocaleString("en")} queries`;
    $("everything").disabled = !narrowed;
    draw();
  };

  // ---- One row, and what it opens to ------------------------------------------------------------------------------
  const body = $("rows").tBodies[0];

  // Names such as a.long_name break where a person would break them.
  const breakable = (text) =>
    text.split(/(?<=[._/:(-])(?=[^._/:(\s-])/).flatMap((piece, at) => (at ? [make("wbr"), piece] : [piece]));

  const drawRow = (row) => {
    const line = make("tr");
    table.forEach((column, position) => {
      const cell = make("td", { "data-label": column.title });
      if (position === 0) {
        const button = make("button", { type: "button", class: "open", "aria-expanded": "false", dir: "auto", text: column.text(row) });
        button.addEventListener("click", () => toggle(button, line, row));
        cell.className = "question";
        cell.append(button);
      } else if (column.number) {
        cell.className = "number";
        cell.textContent = column.text(row);
        if (column.title === "EM" && known(columns.em[row])) {
          cell.classList.add(columns.em[row] >= 1 ? "yes" : "no");
          cell.setAttribute("aria-label", columns.em[row] >= 1 ? "right" : "wrong");
        }
      } else {
        const text = column.text(row);
        cell.append(make("span", { dir: "auto", class: "clamp" }, ...breakable(text || "–")));
      }
      line.append(cell);
    });
    return line;
  };

  const toggle = (button, line, row) => {
    const opened = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!opened));
    if (opened) return line.nextElementSibling.remove();
    const cell = make("td", { colspan: table.length });
    cell.append(...details(row));
    line.after(make("tr", { class: "detail" }, cell));
  };

  const facts = (entries) =>
    make("dl", { class: "facts" }, ...entries.map(([name, ...values]) => make("div", {}, make("dt", { text: name }), ...values.map((value) => make("dd", { dir: "auto", text: value })))));

  const SCORES = [["em", "EM"], ["f1", "F1"], ["bleu", "BLEU"], ["rouge1", "ROUGE-1"], ["rouge2", "ROUGE-2"], ["rougeL", "ROUGE-L"], ["score", "confidence"]];

  const details = (row) => {
    const parts = [];
    const accepted = columns.expected[row];
    const scores = SCORES.filter(([name]) => columns[name] && known(columns[name][row]))
      .map(([name, title]) => `${title} ${decimals(columns[name][row])}`);
    const entries = [["id", columns.id[row]], ["accepted answers", ...(accepted.length ? accepted : ["–"])], ["answer", columns.answer[row] || "none"]];
    if (scores.length) entries.push(["scores", scores.join(" · ")]);
    if (columns.category) entries.push(["what happened", (data.categories.find(([key]) => key === columns.category[row]) ?? ["", "", columns.category[row]])[2]]);
    parts.push(facts(entries));

    if (data.conditions.length) {
      parts.push(make("h4", { text: "Under other conditions" }));
      parts.push(facts(data.conditions.map(({ name, em, f1, answer }) => {
        const values = [`EM ${decimals(em[row])}${f1 ? ` · F1 ${decimals(f1[row])}` : ""}`];
        if (answer) values.unshift(answer[row] || "no answer");
        return [name, ...values];
      })));
    }
    if (data.ranks.length) {
      const ndcg = new Map(data.ndcg.map(({ name, values }) => [name, values]));
      parts.push(make("h4", { text: "First right passage" }));
      parts.push(facts(data.ranks.map(({ name, values }) => {
        const unjudged = ndcg.has(name) && !known(ndcg.get(name)[row]);
        const rank = known(values[row]) ? `rank ${values[row]}` : unjudged ? "not judged" : "not found";
        return [name, ndcg.has(name) ? `${rank} · nDCG@10 ${decimals(ndcg.get(name)[row])}` : rank];
      })));
    }
    if (data.slices.length) {
      parts.push(make("h4", { text: "Slices" }));
      parts.push(facts(data.slices.map(({ name, values }) => [name.replaceAll("_", " "), values[row] || "–"])));
    }
    if (data.read[row].length) {
      parts.push(make("h4", { text: "Passages read" }));
      const legend = make("p", { class: "legend" });
      if (data.spans[row].length > 1) legend.append(make("span", {}, make("mark", { class: "span", text: "the answer" })));
      if (accepted.length) legend.append(make("span", {}, make("mark", { class: "accepted", text: "an accepted answer" })));
      parts.push(legend, ...data.read[row].map(([place, rank, posterior, right]) => passage(row, place, rank, posterior, right)));
    }
    if (data.missed[row].length) {
      parts.push(make("h4", { text: "Right passages that were not read" }));
      parts.push(...data.missed[row].map((place) => passage(row, place, null, null, true)));
    }
    return parts;
  };

  const passage = (row, place, rank, posterior, right) => {
    const shelf = data.passages;
    const [source, start, end, before, cited, after] = data.spans[row];
    const answered = source === place;
    const head = make("header");
    if (rank !== null) head.append(make("span", { class: "badge", text: `rank ${rank}` }));
    if (right) head.append(make("span", { class: "badge good", text: "right" }));
    if (answered) head.append(make("span", { class: "badge answered", text: known(start) ? "answer read here" : "answer rests on this" }));
    if (known(posterior)) {
      const bar = drawing("svg", { class: "belief", role: "img", "aria-label": `belief ${Math.round(100 * posterior)} %` });
      bar.append(drawing("rect", { class: "whole", width: "100%", height: "100%" }), drawing("rect", { class: "mean", width: `${100 * posterior}%`, height: "100%" }));
      head.append(bar, make("span", { class: "number", text: `${Math.round(100 * posterior)} %` }));
    }
    head.append(make("code", { dir: "auto", text: shelf.ids[place] }));
    const article = make("article", { class: right ? "passage right" : "passage" }, head);
    const begins = shelf.begins[place];
    const marked = answered && known(start) ? [start, end] : null;
    const accepted = acceptedPattern(columns.expected[row]);
    if (shelf.titles[place]) {
      // Where the reader saw a title line, its characters come first.
      article.append(make("b", { dir: "auto", class: "title" }, ...highlight(shelf.titles[place], begins ? marked : null, accepted)));
    }
    const text = shelf.texts[place];
    const shown = make("p", { dir: "auto", class: "text" });
    if (shelf.lengths[place] < 0) shown.append(make("em", { text: "This passage is not in the table of passages." }));
    else if (text) shown.append(...highlight(text, marked && [marked[0] - begins, marked[1] - begins], accepted));
    if (shelf.lengths[place] > 0) shown.append(make("em", { text: ` … (${text ? "cut from" : "left out,"} ${shelf.lengths[place].toLocaleString("en")} characters)` }));
    article.append(shown);
    if (answered && known(cited)) {
      article.append(make("p", { dir: "auto", class: "text near" }, "… ", before, make("mark", { class: "span", text: cited }), after, " …"));
    }
    return article;
  };

  // Scripts without spaces have no word boundaries; elsewhere "a" shall not be marked in each word that holds it.
  const JOINED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
  const WORD = /[\p{L}\p{N}_]/u;
  const acceptedPattern = (answers) => {
    const alternatives = [...new Set(answers)]
      .filter((answer) => answer.trim())
      .sort((a, b) => b.length - a.length)
      .map((answer) => {
        const characters = Array.from(answer);
        const edge = (character) => WORD.test(character) && !JOINED.test(character);
        const escaped = answer.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&");
        return (edge(characters[0]) ? "(?<![\\p{L}\\p{N}_])" : "") + escaped + (edge(characters.at(-1)) ? "(?![\\p{L}\\p{N}_])" : "");
      });
    return alternatives.length ? new RegExp(alternatives.join("|"), "giu") : null;
  };

  const highlight = (text, span, pattern) => {
    const marks = []; // [start, end, class]
    if (span) {
      const [start, end] = [Math.max(0, span[0]), Math.min(text.length, span[1])];
      if (start < end) marks.push([start, end, "span"]);
    }
    if (pattern) for (const match of text.matchAll(pattern)) marks.push([match.index, match.index + match[0].length, "accepted"]);
    const borders = [...new Set([0, text.length, ...marks.flatMap(([start, end]) => [start, end])])].sort((a, b) => a - b);
    return borders.slice(1).map((end, at) => {
      const start = borders[at];
      const kinds = [...new Set(marks.filter((mark) => mark[0] <= start && end <= mark[1]).map((mark) => mark[2]))];
      return kinds.length ? make("mark", { class: kinds.join(" "), text: text.slice(start, end) }) : text.slice(start, end);
    });
  };

  // ---- The page ---------------------------------------------------------------------------------------------------
  const draw = () => {
    const pages = Math.max(1, Math.ceil(state.rows.length / PAGE));
    const first = state.page * PAGE;
    const shown = state.rows.slice(first, first + PAGE);
    body.replaceChildren(...shown.map(drawRow));
    if (!shown.length) body.append(make("tr", {}, make("td", { colspan: table.length, text: "No query is like this. Show all, or ask for less." })));
    $("page").textContent = shown.length ? `${(first + 1).toLocaleString("en")}–${(first + shown.length).toLocaleString("en")}, page ${state.page + 1} of ${pages}` : "";
    $("previous").disabled = state.page === 0;
    $("next").disabled = state.page >= pages - 1;
  };

  const turn = (by) => {
    state.page += by;
    draw();
    $("queries").scrollIntoView();
  };
  $("previous").addEventListener("click", () => turn(-1));
  $("next").addEventListener("click", () => turn(1));

  const headers = table.map((column, position) => {
    const button = make("button", { type: "button", text: column.title, dir: "auto" });
    const header = make("th", { scope: "col" }, button);
    button.addEventListener("click", () => {
      const ascending = header.getAttribute("aria-sort") === "ascending";
      headers.forEach((other) => other.removeAttribute("aria-sort"));
      header.setAttribute("aria-sort", ascending ? "descending" : "ascending");
      Object.assign(state, { order: position, direction: ascending ? -1 : 1 });
      update();
    });
    return header;
  });
  $("rows").tHead.rows[0].append(...headers);

  const form = $("tools");
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(update));
  let waiting;
  $("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(update, 120);
  });

  // Buttons elsewhere in the report that show their queries: of a part, of a slice, or a single one.
  for (const button of document.querySelectorAll("button.show")) {
    const { filter, value } = button.dataset;
    const select = filters.get(filter);
    const offered = filter === "query" || (select && [...select.options].some((option) => option.value === value));
    if (!offered) {
      button.disabled = true;
      continue;
    }
    button.addEventListener("click", () => {
      form.reset();
      if (filter === "query") $("search").value = value;
      else select.value = value;
      setTimeout(() => {
        update();
        if (filter === "query") body.querySelector("button.open")?.click();
        $("queries").scrollIntoView();
        $("search").focus({ preventScroll: true });
      });
    });
  }

  for (const hidden of document.querySelectorAll("#queries [hidden]")) hidden.hidden = false;
  update();
  performance.mark("ready");
}
