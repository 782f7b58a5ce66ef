/* The kinds of model. */
#include "text/tok.h"

const struct tok_model tok_models[] = {
    [MODEL_BPE] = {"bpe", "BPE", "gpt2", bpe_encode},
    [MODEL_SCORES] = {"bpe", NULL, "llama", bpe_encode},
    [MODEL_WORDPIECE] = {"wordpiece", "WordPiece", "bert", wordpiece_encode},
    [MODEL_UNIGRAM] = {"unigram", "Unigram", "t5", unigram_encode},
    [MODEL_WORDLEVEL] = {"wordlevel", "WordLevel", NULL, wordlevel_encode},
    {NULL, NULL, NULL, NULL},
};

const struct named tok_kinds[] = {
    {"byte-level BPE", "GPT-2, Llama 3, SmolLM 2, Qwen, ...: tokenizer.json, vocab.json with "
                       "merges.txt, GGUF"},
    {"SentencePiece BPE", "Llama 2, Mistral, Gemma, ...: tokenizer.json, SentencePiece .model, "
                          "GGUF"},
    {"Unigram", "T5, XLM-R, ALBERT, CamemBERT, ...: tokenizer.json, SentencePiece .model, GGUF"},
    {"WordPiece", "BERT, DistilBERT, ...: tokenizer.json, vocab.txt, GGUF"},
    {"WordLevel", "vocabularies of whole words: tokenizer.json"},
    {NULL, NULL},
};
