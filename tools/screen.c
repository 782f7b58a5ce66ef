/* A terminal in raw mode. */
#include "screen.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* Signals that end, that the loop sees, and those that would leave a raw terminal behind. */
static const int watched[] = {SIGINT, SIGTERM, SIGHUP, SIGTSTP, SIGWINCH};
static const int fatal[] = {SIGQUIT, SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL};
enum { WATCHED = sizeof watched / sizeof *watched, FATAL = sizeof fatal / sizeof *fatal };

static struct termios cooked;
static struct sigaction before[WATCHED + FATAL];
static volatile sig_atomic_t raw, entered, stop_asked, pause_asked, resized;

/* Safe in a signal's handler. */
static void restore(void)
{
    static const char normal[] = "\033[?25h\033[?1049l";
    if (!raw)
        return;
    raw = 0;
    tcsetattr(STDIN_FILENO, TCSANOW, &cooked);
    if (write(STDERR_FILENO, normal, sizeof normal - 1) < 0)
        return;
}

static void go_raw(void)
{
    struct termios t = cooked;
    t.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    t.c_cc[VMIN] = 1;
    t.c_cc[VTIME] = 0;
    if (tcsetattr(STDIN_FILENO, TCSANOW, &t))
        return;
    raw = 1;
    fputs("\033[?1049h\033[?25l", stderr);
    fflush(stderr);
}

static void on_watched(int number)
{
    if (number == SIGWINCH)
        resized = 1;
    else if (number == SIGTSTP)
        pause_asked = 1;
    else if (stop_asked) {
        restore();
        _exit(EXIT_INTERRUPTED);
    } else
        stop_asked = 1;
}

static void on_fatal(int number)
{
    restore();
    signal(number, SIG_DFL);
    raise(number);
}

void screen_enter(void)
{
    static bool registered;
    struct sigaction seen = {.sa_handler = on_watched}, last = {.sa_handler = on_fatal};
    sigemptyset(&seen.sa_mask);
    sigemptyset(&last.sa_mask);
    stop_asked = pause_asked = resized = 0;
    for (int i = 0; i < WATCHED; i++)
        sigaction(watched[i], &seen, &before[i]);
    for (int i = 0; i < FATAL; i++)
        sigaction(fatal[i], &last, &before[WATCHED + i]);
    entered = 1;
    if (!registered)
        atexit(screen_leave);
    registered = true;
    if (isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && !tcgetattr(STDIN_FILENO, &cooked))
        go_raw();
}

void screen_leave(void)
{
    restore();
    for (int i = 0; i < WATCHED + FATAL && entered; i++)
        sigaction(i < WATCHED ? watched[i] : fatal[i - WATCHED], &before[i], NULL);
    entered = 0;
}

bool screen_is_live(void)
{
    return raw;
}

/* Ctrl-Z: the shell gets its terminal as it was. */
static void pause_here(void)
{
    bool was = raw;
    pause_asked = 0;
    restore();
    struct sigaction usual = {.sa_handler = SIG_DFL}, mine;
    sigaction(SIGTSTP, &usual, &mine);
    raise(SIGTSTP);
    sigaction(SIGTSTP, &mine, NULL);
    if (was)
        go_raw();
}

/* What follows an escape at once is a key's sequence: 0 for those without a meaning. */
static int escaped(void)
{
    struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned char c = 0;
    if (poll(&p, 1, 50) < 1 || read(STDIN_FILENO, &c, 1) != 1 || (c != '[' && c != 'O'))
        return 0;
    do
        if (poll(&p, 1, 50) < 1 || read(STDIN_FILENO, &c, 1) != 1)
            return 0;
    while (c < '@' || c > '~');
    return c == 'D' ? KEY_LEFT : c == 'C' ? KEY_RIGHT : 0;
}

int screen_key(void)
{
    unsigned char c;
    for (;;) {
        if (stop_asked)
            return KEY_STOP;
        if (pause_asked) {
            pause_here();
            return KEY_REDRAW;
        }
        if (resized) {
            resized = 0;
            return KEY_REDRAW;
        }
        struct pollfd p = {.fd = STDIN_FILENO, .events = POLLIN};
        if (poll(&p, 1, 500) < 1)    /* a signal between the tests and here is seen then */
            continue;
        ssize_t n = read(STDIN_FILENO, &c, 1);
        if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN))
            return KEY_END;
        if (n == 1)
            return c == 27 ? escaped() : c;
    }
}

static struct winsize window(void)
{
    struct winsize w = {0};
    ioctl(STDERR_FILENO, TIOCGWINSZ, &w);
    return w;
}

int screen_columns(void)
{
    int n = window().ws_col;
    return !raw || !n ? 80 : n < 8 ? 8 : n;
}

int screen_lines(void)
{
    int n = window().ws_row;
    return !raw ? 1 << 20 : n ? n : 24;
}

void screen_clear(void)
{
    if (raw)
        fputs("\033[H\033[2J", stderr);
}

void screen_bell(void)
{
    if (raw)
        fputc('\a', stderr);
}

/* ------------------------------------------------------------------- text */

struct range { uint32_t from, to; };
/* East Asian wide characters and emoji; marks that stand on another character. */
static const struct range wide[] = {
    {0x1100, 0x115f}, {0x2e80, 0x303e}, {0x3041, 0xa4cf}, {0xac00, 0xd7a3}, {0xf900, 0xfaff},
    {0xfe30, 0xfe6f}, {0xff00, 0xff60}, {0xffe0, 0xffe6}, {0x1f300, 0x1f64f},
    {0x1f680, 0x1f6ff}, {0x1f900, 0x1faff}, {0x20000, 0x3fffd}};
static const struct range none[] = {
    {0x0300, 0x036f}, {0x0483, 0x0489}, {0x0591, 0x05bd}, {0x0610, 0x061a}, {0x064b, 0x065f},
    {0x093c, 0x093c}, {0x0941, 0x0948}, {0x094d, 0x094d}, {0x0e31, 0x0e31}, {0x0e34, 0x0e3a},
    {0x0e47, 0x0e4e}, {0x200b, 0x200f}, {0x20d0, 0x20f0}, {0xfe00, 0xfe0f}, {0xfe20, 0xfe2f}};
/* Controls, C1 controls among them, and marks that turn the direction of writing. */
static const struct range commands[] = {
    {0, 0x1f}, {0x7f, 0x9f}, {0x2028, 0x202e}, {0x2066, 0x2069}, {0xfeff, 0xfeff}};

static bool is_among(const struct range *r, size_t n, uint32_t c)
{
    for (size_t i = 0; i < n; i++)
        if (c >= r[i].from && c <= r[i].to)
            return true;
    return false;
}
#define AMONG(table, c) is_among(table, sizeof(table) / sizeof *(table), c)

static int columns_of(uint32_t c)
{
    return AMONG(none, c) ? 0 : AMONG(wide, c) ? 2 : 1;
}

size_t screen_wrap(const char *s, int columns, const char **next)
{
    size_t n = strcspn(s, "\n"), used, at = 0, word = 0;
    int taken = 0;
    while (at < n) {
        uint32_t c = utf8_next(s + at, n - at, &used);
        int more = c == '\t' ? 1 : columns_of(c);
        if (c == ' ' || c == '\t')
            word = at;
        if (taken + more > columns)
            break;
        taken += more;
        at += used;
    }
    if (at == n) {
        *next = s + n + (s[n] == '\n');
        return n;
    }
    if (word)
        at = word;
    else if (!at)
        utf8_next(s, n, &at);
    for (*next = s + at; **next == ' ' || **next == '\t';)
        ++*next;
    return at;
}

void screen_text(const char *s, size_t n)
{
    size_t used;
    for (size_t i = 0; i < n; i += used) {
        uint32_t c = utf8_next(s + i, n - i, &used);
        if (AMONG(commands, c))
            fputc(' ', stderr);
        else if (c == 0xfffd)
            fputs("\xef\xbf\xbd", stderr);
        else
            fwrite(s + i, 1, used, stderr);
    }
}
