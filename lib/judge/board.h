/* Systems side by side: what each found of each row, and the figures of it. */
#ifndef JUDGE_BOARD_H
#define JUDGE_BOARD_H

#include "judge/figure.h"

/* What is known of a system's rows; figures are of one of these. */
enum known {
    KNOWN_TOKENS, KNOWN_BYTES, KNOWN_TEXT, KNOWN_CLASS, KNOWN_MULTI, KNOWN_NUMBERS,
    KNOWN_TAGS, KNOWN_CHUNKS, KNOWN_ANSWER, KNOWN_PAIR, KNOWN_RANK
};

struct found {                      /* of one row */
    int64_t line, terms, right;
    int64_t bytes;                  /* KNOWN_BYTES: of the text that its terms are */
    double loss;
    int32_t label, said;            /* of the board's labels; -1 = none */
    double confidence;
    int32_t n;
    const float *scores, *wanted;   /* [n] */
    const double *counts;           /* [3, n] KNOWN_TAGS: true, said, both */
    int64_t chunks[3];              /* right, said, true */
    double margin, exact, f1;
    int64_t rank;
    const char *text, *reference;   /* KNOWN_TEXT, KNOWN_ANSWER: written, wanted */
};

struct system {
    peft_judged told;
    char *name;
    uint32_t known;                 /* bits */
    struct arena arena;             /* what rows point to */
    struct found *rows;             /* by line */
    int64_t n, cap;
    int32_t n_numbers;              /* columns of KNOWN_MULTI and KNOWN_NUMBERS */
};

/* --- ask.c: rows as questions */
enum ask_kind { ASK_NONE, ASK_CHAT, ASK_RAW, ASK_CLASS };
struct ask {
    int64_t line;
    enum ask_kind kind;
    const peft_message *messages;   /* [n] before the answer; ASK_RAW: the prompt alone */
    int32_t n;
    const char *answer;             /* ASK_CLASS: the label */
};
struct asks { struct ask *v; int64_t n, cap; struct arena arena; };      /* by line */
int asks_read(struct host *h, const char *path, const peft_dataset_opts *o, struct asks *out);
void asks_free(struct asks *a, struct mem *mem);

struct peft_board {
    struct host host;
    peft_board_opts o;
    peft_dataset_opts data;
    struct draws draws;
    char *path, *shots_path, *question;
    struct asks rows, shots;        /* read when they are needed first */
    int has_rows, has_shots;
    struct map label_index;
    struct arena arena;             /* labels' names */
    const char **labels;
    int32_t n_labels, labels_cap;
    struct system **systems;        /* [n], each by itself: figures point to them */
    int32_t n, cap;
};
#define KIT_SYSTEM(j, i) \
    KIT_ARG((j) && (i) >= 0 && (i) < (j)->n, "system %d, expected one that was measured", (int)(i))
/* A label's number, a new one for a new name; < 0 failure. */
int32_t board_label(struct peft_board *j, const char *name);
int board_progress(const struct peft_board *j, const char *doing, int64_t done, int64_t rows);
int board_rows(struct peft_board *j);
int board_shots(struct peft_board *j);
/* The row of this line, made when there is none; NULL without memory. */
struct found *system_row(struct peft_board *j, struct system *s, int64_t line);

/* --- measured.c: what peft_eval finds */
/* Bytes of the text of ids, without special tokens; < 0 failure. */
int64_t text_bytes(const peft_model *m, const struct ids *ids);
int measure_rows(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d);
/* --- answered.c: answers to the rows' prompts, and prompts with examples before them */
int answer_rows(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d);
int prompt_rows(struct peft_board *j, struct system *s, peft_model *m, const peft_dataset *d);
/* --- guessed.c: classes without a head */
int guess_by_likelihood(struct peft_board *j, struct system *s, peft_model *m);
int guess_by_nearest(struct peft_board *j, struct system *s, peft_model *m);
int guess_majority(struct peft_board *j, struct system *s);

/* --- prompt.c: prompts as ids, with as many of the examples before them as there is room for */
struct prompt { struct ids ids; int64_t answer_at; int32_t shots; };
void prompt_init(struct prompt *p, struct mem *mem);
void prompt_free(struct prompt *p);
/* `answer` NULL: up to where it begins. */
int prompt_make(struct peft_board *j, const peft_model *m, const struct ask *row, int32_t shots,
                const char *answer, int64_t room, struct prompt *out);

/* --- figures.c */
struct board_figure {
    struct figure figure;           /* width and sums besides */
    int64_t width_each, sums_each;  /* so many for each label, or column */
    enum known known;
    int lower;
    void (*row)(const struct board_figure *f, const struct found *r, double *out);
    const struct overlap_figure *overlap;
    int64_t n;                      /* labels or columns */
};
/* The i-th figure of a system as it is for this board; 0 = there is no further one. */
int board_figure(const struct peft_board *j, const struct system *s, int32_t i,
                 struct board_figure *out);
/* Rows [n, width] of lines that are in `with` too (NULL: of all), *n of them. */
int figure_rows(struct peft_board *j, const struct board_figure *f, const struct system *s,
                const struct system *with, double **out, int64_t *n);

#endif
