/* The kinds of model, by enum model_kind. */
#include "text/tok.h"

int (*const tok_models[])(struct encoder *e, const char *s, int64_t n) = {
    [MODEL_BPE] = bpe_encode, [MODEL_SCORES] = bpe_encode, [MODEL_WORDPIECE] = wordpiece_encode,
    [MODEL_UNIGRAM] = unigram_encode, [MODEL_WORDLEVEL] = wordlevel_encode,
};

const struct tok_kind tok_kinds[] = {
    [MODEL_BPE] = {"bpe", "byte pair encoding by merges", "BPE", "gpt2",
                   "tokenizer.json, vocab.json + merges.txt, SentencePiece .model, GGUF",
                   "GPT-2, Llama 2 and 3, Qwen, Mistral, Gemma, Phi, SmolLM, RoBERTa"},
    [MODEL_SCORES] = {"bpe", "byte pair encoding by scores (SentencePiece)", NULL, "llama",
                      "GGUF", "Llama 2, Mistral, Gemma, TinyLlama"},
    [MODEL_WORDPIECE] = {"wordpiece", "longest piece of a word first", "WordPiece", "bert",
                         "tokenizer.json, vocab.txt, GGUF", "BERT, MiniLM, DistilBERT, BGE"},
    [MODEL_UNIGRAM] = {"unigram", "most probable pieces (SentencePiece)", "Unigram", "t5",
                       "tokenizer.json, SentencePiece .model, GGUF",
                       "T5, mT5, XLM-R, multilingual E5, ALBERT, CamemBERT, DeBERTa v3"},
    [MODEL_WORDLEVEL] = {"wordlevel", "whole words", "WordLevel", NULL, "tokenizer.json",
                         "vocabularies of words"},
    {NULL, NULL, NULL, NULL, NULL, NULL},
};
