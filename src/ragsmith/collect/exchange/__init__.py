"""Files of questions with their passages, as others exchange them: read to one type, and written without loss."""
