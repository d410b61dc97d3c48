"""Whether a writer failed because there was no room."""

import errno
import re

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# safetensors keeps the system's number in its text alone, and numpy's tofile says only how far it came.
NO_ROOM_TEXT = re.compile(
    r"No space left on device|Disk quota exceeded|File too large"
    rf"|os error ({errno.ENOSPC}|{errno.EDQUOT}|{errno.EFBIG})\b|\b\d+ requested and \d+ written"
)


def out_of_space(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that a disk, a quota or the limit of a file's size is used up.

    >>> out_of_space(OSError(errno.ENOSPC, "No space left on device"))
    True
    """
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        if (isinstance(cause, OSError) and cause.errno in NO_ROOM) or NO_ROOM_TEXT.search(str(cause)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
