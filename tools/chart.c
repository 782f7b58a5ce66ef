/* Charts as inline SVG: line charts with axes, ticks and a legend, and bars.
 *
 * Colours come from the page's CSS classes, so that a chart follows its light
 * and dark modes.  A long series is drawn through the least and the greatest
 * value of each of some 400 sections: spikes stay, and the page stays small. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "train.h"

enum { WIDTH = 640, HEIGHT = 280, LEFT = 62, RIGHT = 14, TOP = 22, BOTTOM = 42, SECTIONS = 400 };

struct axis {
    double low, high, step;
};
struct frame {
    FILE *to;
    struct axis x, y;
};

void html_text(FILE *to, const char *s)
{
    size_t n = s ? strlen(s) : 0;
    for (size_t i = 0, used; i < n; i += used) {
        uint32_t c = utf8_next(s + i, n - i, &used);
        if (c == '<' || c == '>' || c == '&' || c == '"' || c == '\'')
            fprintf(to, "&#%u;", (unsigned)c);
        else if ((c >= 0x202A && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069))
            fprintf(to, "\\u%04x", (unsigned)c);  /* would turn what follows around */
        else if (c == 0xFFFD || (c < 32 && c != '\n' && c != '\t') || (c >= 127 && c < 160))
            fputs("&#xFFFD;", to);
        else
            fwrite(s + i, 1, used, to);
    }
}

/* Ticks at 1, 2 or 5 times a power of ten; the range grows to whole ticks. */
static struct axis axis_fit(double low, double high, int ticks, bool whole)
{
    if (!(high - low > 1e-9 * fmax(fabs(high), fabs(low)))) {
        double pad = fabs(low) > 0 ? fabs(low) * 0.5 : 1;
        high = low + pad;
        low -= pad;
    }
    double rough = (high - low) / ticks, power = pow(10, floor(log10(rough)));
    double lead = rough / power;
    double step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
    if (!whole)
        return (struct axis){low, high, step};
    return (struct axis){floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step, step};
}

static double place_x(const struct frame *f, double v)
{
    return LEFT + (v - f->x.low) / (f->x.high - f->x.low) * (WIDTH - LEFT - RIGHT);
}

static double place_y(const struct frame *f, double v)
{
    return HEIGHT - BOTTOM - (v - f->y.low) / (f->y.high - f->y.low) * (HEIGHT - TOP - BOTTOM);
}

static void put_number(FILE *to, double v, double step)
{
    int decimals = (int)fmax(0, -floor(log10(step) + 1e-9));
    if (fabs(v) < step * 1e-6)
        fputs("0", to);
    else if (decimals > 3 || fabs(v) >= 1e6)
        fprintf(to, "%.3g", v);
    else
        fprintf(to, "%.*f", decimals, v);
}

static void draw_axes(const struct frame *f, const char *x_label)
{
    FILE *to = f->to;
    double bottom = HEIGHT - BOTTOM;
    for (double v = f->y.low; v <= f->y.high + f->y.step * 1e-6; v += f->y.step) {
        double y = place_y(f, v);
        fprintf(to, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"tick\" x=\"%d\" "
                "y=\"%.1f\" text-anchor=\"end\">", LEFT, y, WIDTH - RIGHT, LEFT - 8, y + 4);
        put_number(to, v, f->y.step);
        fputs("</text>\n", to);
    }
    double first = ceil(f->x.low / f->x.step - 1e-9) * f->x.step;
    for (double v = first; v <= f->x.high + f->x.step * 1e-6; v += f->x.step) {
        double x = place_x(f, v);
        fprintf(to, "<path class=\"axis\" d=\"M%.1f %.1fv5\"/><text class=\"tick\" x=\"%.1f\" "
                "y=\"%.1f\" text-anchor=\"middle\">", x, bottom, x, bottom + 18);
        put_number(to, v, f->x.step);
        fputs("</text>\n", to);
    }
    fprintf(to, "<path class=\"axis\" d=\"M%d %dV%.1fH%d\"/><text class=\"tick\" x=\"%d\" "
            "y=\"%d\" text-anchor=\"middle\">", LEFT, TOP - 6, bottom, WIDTH - RIGHT,
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6);
    html_text(to, x_label);
    fputs("</text>\n", to);
}

/* ------------------------------------------------------------------ series */

static void draw_dots(const struct frame *f, const struct series *s)
{
    for (int64_t i = 0; i < s->n; i++)
        if (isfinite(s->y[i]))
            fprintf(f->to, "<circle class=\"%s\" cx=\"%.1f\" cy=\"%.1f\" r=\"4\"/>\n", s->style,
                    place_x(f, s->x[i]), place_y(f, s->y[i]));
}

static void put_point(const struct frame *f, const struct series *s, int64_t i, bool *pen)
{
    if (!isfinite(s->y[i])) {
        *pen = false;
        return;
    }
    fprintf(f->to, "%c%.1f %.1f", *pen ? 'L' : 'M', place_x(f, s->x[i]), place_y(f, s->y[i]));
    *pen = true;
}

static void draw_line(const struct frame *f, const struct series *s)
{
    int64_t sections = s->n > 2 * SECTIONS ? SECTIONS : s->n;
    bool pen = false;
    fprintf(f->to, "<path class=\"line %s\" d=\"", s->style);
    for (int64_t k = 0; k < sections; k++) {
        int64_t from = k * s->n / sections, end = (k + 1) * s->n / sections;
        int64_t low = from, high = from;
        for (int64_t i = from; i < end; i++) {
            low = s->y[i] < s->y[low] ? i : low;
            high = s->y[i] > s->y[high] ? i : high;
        }
        put_point(f, s, low < high ? low : high, &pen);
        if (low != high)
            put_point(f, s, low < high ? high : low, &pen);
    }
    fputs("\"/>\n", f->to);
}

static void draw_legend(const struct frame *f, const struct chart *c)
{
    int at = WIDTH - RIGHT;
    for (int i = c->n_series - 1; i >= 0; i--) {
        const struct series *s = &c->series[i];
        if (!s->name || !s->n)
            continue;
        at -= 7 * text_columns(s->name) + 4;
        fprintf(f->to, "<text class=\"tick\" x=\"%d\" y=\"12\">", at);
        html_text(f->to, s->name);
        fputs("</text>", f->to);
        if (s->dots)
            fprintf(f->to, "<circle class=\"%s\" cx=\"%d\" cy=\"8\" r=\"4\"/>\n", s->style,
                    at - 12);
        else
            fprintf(f->to, "<path class=\"line %s\" d=\"M%d 8h16\"/>\n", s->style, at - 22);
        at -= 34;
    }
}

static void find_range(const struct chart *c, double range[4])
{
    range[0] = range[2] = INFINITY;
    range[1] = range[3] = -INFINITY;
    for (int i = 0; i < c->n_series; i++)
        for (int64_t k = 0; k < c->series[i].n; k++) {
            double x = c->series[i].x[k], y = c->series[i].y[k];
            if (!isfinite(x) || !isfinite(y))
                continue;
            range[0] = fmin(range[0], x);
            range[1] = fmax(range[1], x);
            range[2] = fmin(range[2], y);
            range[3] = fmax(range[3], y);
        }
}

static void open_svg(FILE *to, const char *title)
{
    fputs("<figure><figcaption>", to);
    html_text(to, title);
    fprintf(to, "</figcaption><svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH,
            HEIGHT);
    html_text(to, title);
    fputs("\">\n", to);
}

void chart_draw(FILE *to, const struct chart *chart)
{
    double range[4];
    find_range(chart, range);
    if (!(range[0] <= range[1]))
        return;
    if (chart->from_zero)
        range[2] = fmin(range[2], 0);
    struct frame f = {to, axis_fit(range[0], range[1], 7, false),
                      axis_fit(range[2], range[3], 5, true)};
    if (f.x.step < 1)
        f.x.step = 1;
    open_svg(to, chart->title);
    draw_axes(&f, chart->x_label);
    for (int i = 0; i < chart->n_series; i++)
        if (chart->series[i].dots)
            draw_dots(&f, &chart->series[i]);
        else
            draw_line(&f, &chart->series[i]);
    draw_legend(&f, chart);
    fputs("</svg></figure>\n", to);
}

void chart_bars(FILE *to, const char *title, const char *x_label, const int64_t *count, int n,
                double low, double width)
{
    int64_t most = 1;
    for (int i = 0; i < n; i++)
        most = count[i] > most ? count[i] : most;
    struct frame f = {to, axis_fit(low, low + n * width, 7, false),
                      axis_fit(0, (double)most, 5, true)};
    if (f.y.step < 1)
        f.y = (struct axis){0, (double)most, 1};
    open_svg(to, title);
    draw_axes(&f, x_label);
    for (int i = 0; i < n; i++) {
        double x = place_x(&f, low + i * width), end = place_x(&f, low + (i + 1) * width);
        double y = place_y(&f, (double)count[i]);
        if (count[i])
            fprintf(to, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
                    "height=\"%.1f\"><title>%.0f to %.0f: %lld</title></rect>\n", x + 1, y,
                    end - x - 2, HEIGHT - BOTTOM - y, low + i * width,
                    low + (i + 1) * width - 1, (long long)count[i]);
    }
    fputs("</svg></figure>\n", to);
}
