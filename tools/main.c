/* peft: adapts pre-trained models from the command line.  This file is the
 * table of the commands. */
#include <signal.h>
#include <stddef.h>
#include <string.h>

#include "cli.h"

#define AT(field) offsetof(struct args, field)

static const struct option run_options[] = {
    {"out", OPT_TEXT, "DIR", "adapter or model, metrics.jsonl, report.html", AT(out), 0, 0},
    {"eval-every", OPT_INT, "N", "steps between evaluations (default: an epoch)", AT(eval_every),
     1, 2147483647},
    {"patience", OPT_INT, "N", "end after N evaluations that are no better than the best",
     AT(patience), 1, 2147483647},
    {"metric", OPT_TEXT, "NAME", "that tells which is best: loss (default), accuracy, f1 ...",
     AT(metric), 0, 0},
    {"keep", OPT_TEXT, "WHICH", "weights that are the result: best (default with --eval), last",
     AT(keep), 0, 0},
    {"stop-on", OPT_TEXT, "LIST", "end when it is found: diverged, dead, overfitting, spike,\n"
     "                         chance, worse, any (default: only told)", AT(stop_on), 0, 0},
    {"checkpoint-every", OPT_INT, "N", "steps between checkpoints (default: none)",
     AT(checkpoint_every), 1, 2147483647},
    {"continue", OPT_TEXT, "DIR", "go on from the adapter of an earlier run; a sample of its\n"
     "                         rows is repeated (--replay-share)", AT(go_on), 0, 0},
    {"resume", OPT_FLAG, NULL, "go on from the newest checkpoint in --out", AT(resume), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "start anew where an unfinished run lies", AT(overwrite), 0, 0},
    {"sample-file", OPT_TEXT, "FILE", "questions, one a line, asked before and after",
     AT(sample_file), 0, 0},
    {"sample-tokens", OPT_INT, "N", "length of those answers (default 64)", AT(sample_tokens), 1,
     65536},
    {0}};
static const struct option replay_options[] = {
    {"out", OPT_TEXT, "DIR", "where the result is made again", AT(out), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "where an unfinished run lies", AT(overwrite), 0, 0},
    {"threads", OPT_INT, "N", "worker threads; the bytes are the same", AT(threads), 1, 32},
    {0}};
static const struct option tune_options[] = {
    {"out", OPT_TEXT, "DIR", "trials.jsonl, tune.html, and best: the best adapter or model",
     AT(out), 0, 0},
    {"search", OPT_TEXT, "SPACE", "lr=1e-5..1e-3,rank=4|8|16,targets=all|attention|q_proj+v_proj,\n"
     "                         epochs=1..5; also batch, alpha, dropout, warmup, weight-decay\n"
     "                         (default: by the method)", AT(search), 0, 0},
    {"trials", OPT_INT, "N", "settings that are tried (default 9, or by the budget)", AT(trials), 1,
     243},
    {"budget", OPT_TEXT, "TIME", "of all runs: 90s, 20m, 1h30m", AT(budget), 0, 0},
    {"eta", OPT_INT, "N", "one trial of so many goes on (default 3)", AT(eta), 2, 16},
    {"search-seed", OPT_SEED, "N", "of the settings that are tried (default 0)", AT(search_seed), 0,
     0},
    {"metric", OPT_TEXT, "NAME", "that tells which is best: loss (default), accuracy, f1 ...",
     AT(metric), 0, 0},
    {"patience", OPT_INT, "N", "evaluations that are no better, in a run (default 2)", AT(patience),
     1, 2147483647},
    {"overwrite", OPT_FLAG, NULL, "begin anew where trials lie", AT(overwrite), 0, 0},
    {0}};
static const struct option inspect_options[] = {
    {"tensors", OPT_FLAG, NULL, "every tensor: name, type, shape", AT(tensors), 0, 0}, {0}};
static const struct option eval_options[] = {
    {"batch", OPT_INT, "N", "examples at a time (default 4)", AT(batch), 1, 65536},
    {"with", OPT_LIST, "NAME=PATH", "side by side: MODEL with this adapter, or the model\n"
     "                         that a run has left; may be repeated; \"base=\" names\n"
     "                         MODEL as it is", AT(with), 0, 0},
    {"model", OPT_LIST, "NAME=PATH", "side by side: another model; may be repeated", AT(others), 0,
     0},
    {"few-shot", OPT_INT, "K", "side by side: MODEL as it is behind K examples", AT(few_shot), 1,
     1000},
    {"shots", OPT_TEXT, "FILE", "where the examples are taken from", AT(shots), 0, 0},
    {"question", OPT_TEXT, "TEXT", "put below a text that a model without head classifies",
     AT(question), 0, 0},
    {"generate", OPT_FLAG, NULL, "answer the rows' prompts too, and compare the answers",
     AT(generate), 0, 0},
    {"max-tokens", OPT_INT, "N", "length of an answer (default 128)", AT(max_tokens), 1, 1e9},
    {"out", OPT_TEXT, "FILE", "what each system said of each row, as JSONL", AT(out), 0, 0},
    {"samples", OPT_INT, "N", "of the bootstrap (default 1000)", AT(samples), 1, 1 << 20},
    {"confidence", OPT_NUMBER, "P", "percent, of intervals and tests (default 95)",
     AT(confidence), 50, 99.99},
    {"seed", OPT_SEED, "N", "of the bootstrap and the choice of examples (default 0)", AT(seed), 0,
     0},
    {0}};
static const struct option prompt_options[] = {
    {"prompt", OPT_TEXT, "TEXT", "the question; without it, stdin is read", AT(prompt), 0, 0},
    {"raw", OPT_FLAG, NULL, "continue the text, without chat template", AT(raw), 0, 0},
    {0}};
static const struct option classify_options[] = {
    {"image", OPT_LIST, "FILE", "a PNG or JPEG file; may be repeated", AT(image), 0, 0},
    {"top", OPT_INT, "N", "classes shown of each picture (default 1)", AT(top), 1, 65536},
    {"text", OPT_TEXT, "TEXT", "what to classify; without it, --data or stdin by lines", AT(text),
     0, 0},
    {"data", OPT_TEXT, "FILE", "JSONL with a column \"text\", or a text a line", AT(data), 0, 0},
    {"threshold", OPT_NUMBER, "X", "several labels: those above it (default 0.5)", AT(threshold),
     0, 1},
    {"aggregate", OPT_TEXT, "HOW", "tags: none, simple (default), first, average, max",
     AT(aggregate), 0, 0},
    {"max-len", OPT_INT, "N", "tokens of a text or window", AT(max_len), 1, 2147483647},
    {"batch", OPT_INT, "N", "texts at a time (default 8)", AT(batch), 1, 65536},
    {0}};
static const struct option answer_options[] = {
    {"question", OPT_TEXT, "TEXT", "what is asked", AT(question), 0, 0},
    {"context", OPT_TEXT, "FILE", "text with the answer; without it, stdin", AT(context), 0, 0},
    {"n-best", OPT_INT, "N", "answers (default 1)", AT(n_best), 1, 1000},
    {"no-answer", OPT_FLAG, NULL, "there may be none", AT(no_answer), 0, 0},
    {"max-len", OPT_INT, "N", "tokens of a window (default 384)", AT(max_len), 1, 2147483647},
    {"stride", OPT_INT, "N", "tokens that windows share (default 128)", AT(stride), 1, 2147483647},
    {0}};
static const struct option embed_options[] = {
    {"text", OPT_TEXT, "TEXT", "what to embed; without it, --data or stdin by lines", AT(text), 0,
     0},
    {"data", OPT_TEXT, "FILE", "JSONL with a column \"text\", or a text a line", AT(data), 0, 0},
    {"out", OPT_TEXT, "FILE", "JSONL; default: stdout", AT(out), 0, 0},
    {"pool", OPT_TEXT, "NAME", "mean, cls, last, weighted (default: the folder's)", AT(pool), 0, 0},
    {"normalize", OPT_SWITCH, NULL, "to length 1 (default: the folder's)", AT(normalize), 0, 0},
    {"max-len", OPT_INT, "N", "tokens of a text", AT(max_len), 1, 2147483647},
    {"batch", OPT_INT, "N", "texts at a time (default 8)", AT(batch), 1, 65536},
    {0}};
static const struct option convert_options[] = {
    {"out", OPT_TEXT, "PATH", "a folder, or a file that ends in .gguf", AT(out), 0, 0},
    {"dtype", OPT_TEXT, "NAME", "of float tensors: f32, f16, bf16; in GGUF also q8_0, q6_k, q5_k,\n"
     "                         q5_1, q5_0, q4_k, q4_1, q4_0; in folders bitsandbytes' nf4, fp4,\n"
     "                         nf4_dq, fp4_dq (default: as held)", AT(dtype), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace what --out names", AT(overwrite), 0, 0},
    {0}};
static const struct option calibrate_options[] = {
    {"calibrate", OPT_TEXT, "FILE", "JSONL or CSV: tells how far the result is from the model",
     AT(calibrate), 0, 0},
    {"max-len", OPT_INT, "N", "tokens an example of it (default 1024)", AT(max_len), 1, 2147483647},
    {"limit", OPT_INT, "N", "read only its first N rows", AT(limit), 1, 2147483647},
    {"batch", OPT_INT, "N", "rows of it at a time (default 1)", AT(batch), 1, 65536},
    {0}};
static const struct option quantize_options[] = {
    {"to", OPT_TEXT, "NAME", "q4_k, q5_k, q6_k, q8_0, q4_0, q4_1, q5_0, q5_1 (GGUF); nf4, fp4,\n"
     "                         nf4_dq, fp4_dq (folder); dynamic: chosen for each matrix by\n"
     "                         what it costs on --calibrate", AT(to), 0, 0},
    {"budget", OPT_TEXT, "SIZE", "of all tensors, with dynamic: 300M, 1.2G, or 4.8bpw\n"
     "                         (default 5bpw)", AT(budget), 0, 0},
    {"bits", OPT_NUMBER, "X", "the same, in bits a weight: 4.8", AT(bits), 1, 64},
    {"out", OPT_TEXT, "PATH", "a folder, or a file that ends in .gguf", AT(out), 0, 0},
    {"overwrite", OPT_FLAG, NULL, "replace what --out names", AT(overwrite), 0, 0},
    {0}};
static const struct option check_options[] = {
    {"reader", OPT_TEXT, "NAME", "peft, vllm or llama.cpp (default: all)", AT(reader), 0, 0},
    {"base", OPT_TEXT, "MODEL", "its base model, whose modules the tensors must fit", AT(base), 0,
     0},
    {0}};
static const struct option rework_options[] = {
    {"base", OPT_TEXT, "MODEL", "the adapter's base model", AT(base), 0, 0},
    {"for", OPT_TEXT, "READER", "what shall read it: peft, vllm or llama.cpp (default: all)",
     AT(reader), 0, 0},
    {"to", OPT_TEXT, "FORM", "peft (default), gguf or mlx: how the adapter is written", AT(to), 0,
     0},
    {"merge", OPT_FLAG, NULL, "write the base with the adapter in its weights: a folder, or a\n"
     "                         GGUF file when OUT ends in .gguf", AT(merge), 0, 0},
    {"rank", OPT_INT, "R", "what cannot be folded becomes a LoRA of this rank, by SVD of the\n"
     "                         weights' difference", AT(rank), 1, 65536},
    {"dtype", OPT_TEXT, "NAME", "f32 (default), f16, bf16; merged weights: as held, or any of\n"
     "                         peft convert", AT(dtype), 0, 0},
    {"data", OPT_TEXT, "FILE", "texts, one a line, that prove the result (default: built in)",
     AT(data), 0, 0},
    {"limit", OPT_NUMBER, "X", "largest logit difference allowed (default 1e-4)", AT(limit_diff),
     0, 1e9},
    {"overwrite", OPT_FLAG, NULL, "replace OUT", AT(overwrite), 0, 0},
    {0}};
static const struct option list_options[] = {
    {"markdown", OPT_FLAG, NULL, "as a table for a README", AT(markdown), 0, 0}, {0}};
static const struct option bench_options[] = {
    {"roofline", OPT_FLAG, NULL, "operations beside what the machine allows", AT(roofline), 0, 0},
    {"length", OPT_INT, "N", "tokens of a made-up row, without --data (default 256)", AT(length), 2,
     1048576},
    {"paced", OPT_FLAG, NULL, "a step, and a row of JSON, for each line on stdin", AT(paced), 0, 0},
    {0}};
static const struct option tokenize_options[] = {
    {"text", OPT_TEXT, "TEXT", "what to encode; without it, stdin is read", AT(text), 0, 0},
    {"decode", OPT_TEXT, "IDS", "decode these ids instead: \"1 2 3\"", AT(decode), 0, 0},
    {"no-special", OPT_FLAG, NULL, "do not add or show special tokens", AT(no_special), 0, 0},
    {"plain", OPT_FLAG, NULL, "names of special tokens are plain text", AT(plain), 0, 0},
    {0}};

static const struct command commands[] = {
    {"doctor", "Says what was found on this machine, and what to do about it.",
     "peft doctor [--json]",
     "  peft doctor\n", OPERAND_NONE, {common_options}, run_doctor, NULL},
    {"inspect", "Shows what a model file or folder holds.", "peft inspect MODEL [options]",
     "  peft inspect model.gguf\n"
     "  peft inspect folder --tensors --json\n",
     OPERAND_NEEDED, {inspect_options, model_options, common_options}, run_inspect, NULL},
    {"train", "Adapts a model to a data set.", "peft train MODEL --data FILE --out DIR [options]",
     "  peft train model.gguf --data chats.jsonl --out run\n"
     "  peft train model.gguf --data chats.jsonl --eval 0.1 --epochs 3 --rank 8 --out run\n"
     "  peft train encoder --data reviews.csv --method head --epochs 5 --out run\n"
     "  peft train encoder --data reviews.csv --eval 0.2 --epochs 20 --patience 3 --out run\n"
     "  peft train vit --data pictures/train --eval pictures/test --augment flip --out run\n"
     "  peft train folder --data text.jsonl --method none --unfreeze '*.29.*' --out run\n"
     "  peft train model.gguf --data chats.jsonl --out run --resume\n"
     "  peft train --continue run --data new.jsonl --out run2\n",
     OPERAND_OPTIONAL,
     {data_options, train_options, before_options, run_options, model_options, common_options},
     run_train, NULL},
    {"replay", "Makes a result again from its receipt, and compares the bytes.",
     "peft replay RUN|RECEIPT --out DIR [--json]",
     "  peft replay run --out again\n"
     "  peft replay run/receipt.json --out again --json\n",
     OPERAND_NEEDED, {replay_options, common_options}, run_replay, "receipt"},
    {"tune", "Searches for settings by trials.",
     "peft tune MODEL --data FILE --eval FILE|RATIO --out DIR [options of train]",
     "  peft tune model.gguf --data chats.jsonl --eval 0.1 --budget 20m --out tuned\n"
     "  peft tune encoder --data reviews.csv --eval 0.2 --metric f1 --trials 27 --out tuned\n"
     "  peft tune model.gguf --data chats.jsonl --eval 0.1 --out tuned \\\n"
     "      --search 'lr=1e-5..1e-3,rank=4|8|16,targets=all|q_proj+v_proj,epochs=1..3'\n",
     OPERAND_NEEDED,
     {data_options, train_options, before_options, tune_options, model_options, common_options},
     run_tune, NULL},
    {"eval", "Measures a model on a data set, or several side by side.",
     "peft eval MODEL --data FILE [--with NAME=PATH ...] [options]",
     "  peft eval model.gguf --data test.jsonl\n"
     "  peft eval model.gguf --data test.jsonl --adapter run --json\n"
     "  peft eval model.gguf --data test.jsonl --with law=run1 --with cook=run2 --generate\n"
     "  peft eval model.gguf --data test.csv --with run=run --few-shot 8 --shots train.csv\n"
     "  peft eval model.gguf --data test.jsonl --model small=other.gguf --out said.jsonl\n",
     OPERAND_NEEDED,
     {data_options, adapter_options, eval_options, model_options, common_options}, run_eval, NULL},
    {"generate", "Answers one prompt.", "peft generate MODEL --prompt TEXT [options]",
     "  peft generate model.gguf --prompt \"What is the capital of France?\"\n"
     "  peft generate model.gguf --adapter run --prompt Hello --temperature 0.7 --seed 1\n"
     "  echo \"Once upon a time\" | peft generate model.gguf --raw --max-tokens 40\n"
     "  peft generate model.gguf --prompts asked.jsonl --with law=run1 --with cook=run2 --json\n",
     OPERAND_NEEDED,
     {prompt_options, prompts_options, generate_options, adapter_options, model_options,
      common_options},
     run_generate, NULL},
    {"chat", "Talks with a model.", "peft chat MODEL [options]",
     "  peft chat model.gguf\n"
     "  peft chat model.gguf --adapter run --system \"Answer in one sentence.\"\n",
     OPERAND_NEEDED, {generate_options, adapter_options, model_options, common_options},
     run_chat, NULL},
    {"classify", "Labels texts, the parts of a text, or pictures.",
     "peft classify MODEL --text TEXT [options]",
     "  peft classify reviews --text \"A joy to read.\"\n"
     "  peft classify encoder --adapter run --data news.jsonl --json\n"
     "  peft classify vit --image a.png --image b.png --top 3\n",
     OPERAND_NEEDED,
     {classify_options, adapter_options, model_options, common_options}, run_classify, NULL},
    {"answer", "Finds the answer to a question in a text.",
     "peft answer MODEL --question TEXT --context FILE [options]",
     "  peft answer squad --question \"Who wrote it?\" --context page.txt --n-best 3\n",
     OPERAND_NEEDED,
     {answer_options, adapter_options, model_options, common_options}, run_answer, NULL},
    {"embed", "Turns texts into vectors.", "peft embed MODEL --text TEXT [options]",
     "  peft embed MiniLM --data sentences.txt --out vectors.jsonl\n",
     OPERAND_NEEDED,
     {embed_options, adapter_options, model_options, common_options}, run_embed, NULL},
    {"convert", "Turns a model into a Hugging Face folder or a GGUF file.",
     "peft convert MODEL --out FOLDER|FILE.gguf [options]",
     "  peft convert model.gguf --out folder --dtype bf16\n"
     "  peft convert folder --out model.gguf --dtype q4_k\n"
     "  peft convert folder --out folder-nf4 --dtype nf4_dq\n",
     OPERAND_NEEDED, {convert_options, model_options, common_options}, run_convert, NULL},
    {"merge", "Adds an adapter into the weights.",
     "peft merge MODEL --adapter DIR --out FOLDER|FILE.gguf [options]",
     "  peft merge model.gguf --adapter run --out merged.gguf\n"
     "  peft merge folder --adapter run --out merged --dtype bf16\n",
     OPERAND_NEEDED,
     {convert_options, adapter_options, calibrate_options, model_options, common_options},
     run_convert, NULL},
    {"quantize", "Gives the weights fewer bits, and tells what that costs.",
     "peft quantize MODEL --to NAME --out FOLDER|FILE.gguf [options]",
     "  peft quantize folder --to q4_k --out model.gguf --calibrate text.jsonl\n"
     "  peft quantize folder --to dynamic --budget 4.8 --calibrate text.jsonl --out model.gguf\n"
     "  peft quantize folder --to nf4 --out folder-nf4\n",
     OPERAND_NEEDED, {quantize_options, calibrate_options, model_options, common_options},
     run_quantize, NULL},
    {"adapter check", "Tells who loads, refuses or silently misreads an adapter.",
     "peft adapter check DIR [--reader peft|vllm|llama.cpp] [--base MODEL] [--json]",
     "  peft adapter check run\n"
     "  peft adapter check run --reader vllm --base model --json\n",
     OPERAND_NEEDED, {check_options, model_options, common_options}, run_adapter_check, "adapter"},
    {"adapter convert", "Makes an adapter one that a reader reads right, and proves it.",
     "peft adapter convert DIR OUT --base MODEL [options]",
     "  peft adapter convert rslora plain --base model --for llama.cpp\n"
     "  peft adapter convert run run.gguf --base model --for llama.cpp --to gguf\n"
     "  peft adapter convert dora merged --base model --merge --dtype bf16\n"
     "  peft adapter convert loha lora --base model --rank 32\n",
     OPERAND_TWO, {rework_options, model_options, common_options}, run_adapter_convert, "adapter"},
    {"list", "Shows what works: families, formats, types, tokenizers, heads, methods.",
     "peft list families|formats|types|tokenizers|heads|methods [--json | --markdown]",
     "  peft list families\n"
     "  peft list types --json\n",
     OPERAND_NEEDED, {list_options, common_options}, run_list, "table"},
    {"tokenize", "Shows how a text becomes tokens.", "peft tokenize MODEL --text TEXT [options]",
     "  peft tokenize model.gguf --text \"Hello world\"\n"
     "  peft tokenize model.gguf --json < page.txt\n"
     "  peft tokenize model.gguf --decode \"19556 905\"\n",
     OPERAND_NEEDED, {tokenize_options, model_options, common_options}, run_tokenize, NULL},
    {"plan", "Tells the memory and time that a training would take.",
     "peft plan MODEL --data FILE [options of train]",
     "  peft plan model.gguf --data chats.jsonl --batch 8 --max-len 512\n"
     "  peft plan model.gguf --data chats.jsonl --epochs 3 --price 0.5/M --show-row 12\n"
     "  peft plan folder --data chats.jsonl --method full --json\n",
     OPERAND_NEEDED,
     {data_options, train_options, before_options, plan_options, model_options, common_options},
     run_plan, NULL},
    {"bench", "Measures training steps against the machine's own limits.",
     "peft bench MODEL [--roofline] [options of train]",
     "  peft bench model.gguf --batch 4 --length 256 --steps 5\n"
     "  peft bench model.gguf --roofline --compute bf16 --threads 2\n"
     "  peft bench folder --roofline --data chats.jsonl --method full --json\n",
     OPERAND_NEEDED,
     {bench_options, data_options, train_options, model_options, common_options}, run_bench, NULL},
    {0}};
/* Every table of commands; in each the row without a name is the last. */
static const struct command *const tables[] = {commands, data_commands};
enum { N_TABLES = sizeof tables / sizeof *tables, MAX_COMMANDS = 128 };

static int list_commands(const struct command *list[MAX_COMMANDS])
{
    int n = 0;
    for (int t = 0; t < N_TABLES; t++)
        for (const struct command *c = tables[t]; c->name && n < MAX_COMMANDS; c++)
            list[n++] = c;
    return n;
}

static void print_overview(FILE *to)
{
    fprintf(to,
            "%speft%s adapts pre-trained language models on the CPU.\n\n"
            "  peft train model.gguf --data chats.jsonl --out run\n"
            "  peft generate model.gguf --adapter run --prompt \"...\"\n\n",
            paint(to, BOLD), paint(to, PLAIN));
    const struct command *list[MAX_COMMANDS];
    for (int i = 0, n = list_commands(list); i < n; i++)
        fprintf(to, "  %-16s %s\n", list[i]->name, list[i]->summary);
    fprintf(to, "\npeft COMMAND --help tells more; peft --version.\n");
}

static int print_version(void)
{
    peft_system sys = {.size = sizeof sys};
    int32_t v = peft_version();
    printf("peft %d.%d.%d\n", v / 10000, v / 100 % 100, v % 100);
    if (!peft_system_info(&sys))
        printf("%s kernels, %s (%s), %d threads\n", sys.level, sys.blas, sys.blas_core,
               sys.cores);
    return EXIT_OK;
}

const struct command *find_command(const char *name)
{
    const struct command *list[MAX_COMMANDS];
    for (int i = 0, n = list_commands(list); i < n; i++)
        if (!strcmp(name, list[i]->name))
            return list[i];
    return NULL;
}

static int unknown_command(const char *name)
{
    const struct command *list[MAX_COMMANDS];
    const char *names[MAX_COMMANDS];
    int n = list_commands(list);
    for (int i = 0; i < n; i++)
        names[i] = list[i]->name;
    const char *hint = nearest(name, names, n);
    if (hint)
        return usage_error("there is no command \"%s\"; did you mean %s?", name, hint);
    return usage_error("there is no command \"%s\"; see peft --help", name);
}

/* "adapter check" is one name: the words become one, in front of the rest. */
static void join_name(int *argc, char **argv)
{
    static char name[64];
    if (*argc < 3)
        return;
    snprintf(name, sizeof name, "%s %s", argv[1], argv[2]);
    if (!find_command(name))
        return;
    argv[1] = name;
    memmove(argv + 2, argv + 3, (size_t)(*argc - 2) * sizeof *argv);
    --*argc;
}

static int run_command(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "help")) {
        int rest = argc - 1;
        join_name(&rest, argv + 1);
        argc = rest + 1;
    } else
        join_name(&argc, argv);
    const char *name = argc > 1 ? argv[1] : "";
    if (!*name) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    bool help = !strcmp(name, "help");
    if (help && argc > 2)
        name = argv[2];
    else if (help || !strcmp(name, "--help") || !strcmp(name, "-h")) {
        print_overview(stdout);
        return EXIT_OK;
    } else if (!strcmp(name, "--version"))
        return print_version();

    const struct command *cmd = find_command(name);
    if (!cmd)
        return unknown_command(name);
    struct args args = {0};
    if (!help) {
        int rc = options_parse(cmd, argc, argv, &args);
        if (rc)
            return rc;
    }
    if (help || args.help) {
        options_help(cmd);
        return EXIT_OK;
    }
    quiet_set(args.quiet);
    return cmd->run(&args);
}

int main(int argc, char **argv)
{
    signal(SIGXFSZ, SIG_IGN);  /* a file size limit then is a failed write */
    int rc = run_command(argc, argv);
    if (fflush(stdout) || ferror(stdout)) {
        fprintf(stderr, "peft: the result could not be written to stdout\n");
        return rc ? rc : EXIT_RUNTIME;
    }
    return rc;
}
