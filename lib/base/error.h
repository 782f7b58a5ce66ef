/* Failures: a code, and a one-line message of this thread.  The message says
 * what was found and what was expected. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

/* Sets this thread's message and returns `code`, so that a function can end
 * with `return fail(PEFT_EFORMAT, "%s: ...", path)`.  Control characters of
 * the arguments are replaced, so a hostile name cannot break the line. */
int fail(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Puts context before the present message ("data.jsonl line 3: ") and returns
 * `code` unchanged. */
int fail_in(int code, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same with "PATH: ", for a failure; nothing if the message begins so. */
int fail_path(int code, const char *path);
const char *error_message(void);
void error_clear(void);

#endif
