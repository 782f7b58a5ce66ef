/* Keys one at a time, and a screen that is drawn anew: a terminal in raw mode, which is left
 * as it was on every way out; or keys from a pipe, with plain text. */
#ifndef SCREEN_H
#define SCREEN_H

#include "cli.h"

enum { KEY_END = -1, KEY_STOP = -2, KEY_REDRAW = -3, KEY_LEFT = 256, KEY_RIGHT };

void screen_enter(void);
void screen_leave(void);
/* A byte, an arrow; KEY_END at the end of the input, KEY_STOP at SIGINT, SIGTERM or SIGHUP,
 * KEY_REDRAW when the window has another size or the process goes on after Ctrl-Z. */
int screen_key(void);
/* Whether it is a terminal; its size. */
bool screen_is_live(void);
int screen_columns(void), screen_lines(void);
void screen_clear(void);
void screen_bell(void);
/* The bytes of the first line of a text that is wrapped at words into so many columns; *next
 * is where the one after it begins. */
size_t screen_wrap(const char *s, int columns, const char **next);
/* Prints n bytes without what would command the terminal. */
void screen_text(const char *s, size_t n);

#endif
