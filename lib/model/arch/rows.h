/* Rows that the tables of several families share. */
#ifndef MODEL_ARCH_ROWS_H
#define MODEL_ARCH_ROWS_H

#include "model/arch.h"

#define AT(field) offsetof(struct hparams, field)

/* --- keys */
#define KEYS_SIZES \
    { AT(layers), 'i', 'r', "num_hidden_layers", "block_count", 0, 4096 }, \
    { AT(dim), 'i', 'r', "hidden_size", "embedding_length", 0, 1 << 20 }, \
    { AT(heads), 'i', 'r', "num_attention_heads", "attention.head_count", 0, 1 << 16 }
#define KEY_FF { AT(ff), 'i', 'r', "intermediate_size", "feed_forward_length", 0, 1 << 24 }
#define KEY_MAX_LEN \
    { AT(max_len), 'i', 'o', "max_position_embeddings", "context_length", 2048, 1 << 30 }
#define KEY_KV_HEADS \
    { AT(kv_heads), 'i', 'o', "num_key_value_heads", "attention.head_count_kv", 0, 1 << 16 }
#define KEYS_HEAD_DIM \
    { AT(head_dim), 'i', 'o', "head_dim", "attention.key_length", 0, 1 << 16 }, \
    { AT(head_dim), 'i', 'o', NULL, "attention.value_length", 0, 1 << 16 }
#define KEY_WINDOW \
    { AT(window), 'i', 'o', "sliding_window", "attention.sliding_window", 0, 1 << 30 }
#define KEYS_THETA_OR(absent) \
    { AT(theta), 'f', 'o', "rope_parameters.rope_theta", "rope.freq_base", 0, 0 }, \
    { AT(theta), 'f', 'o', "rope_theta", NULL, absent, 0 }
#define KEYS_THETA KEYS_THETA_OR(10000)
#define KEY_ROT { AT(rot), 'i', 'o', NULL, "rope.dimension_count", 0, 1 << 16 }
/* A share of the head turns; `old` is its name before transformers 5. */
#define KEYS_ROT_SHARE(old, absent) \
    { AT(rot_share), 'f', 'o', "rope_parameters.partial_rotary_factor", NULL, 0, 0 }, \
    { AT(rot_share), 'f', 'o', old, NULL, absent, 0 }, KEY_ROT
#define KEY_RMS_EPS(absent) \
    { AT(eps), 'f', 'o', "rms_norm_eps", "attention.layer_norm_rms_epsilon", absent, 0 }
#define KEY_NORM_EPS(name) \
    { AT(eps), 'f', 'o', name, "attention.layer_norm_epsilon", 1e-5, 0 }
#define KEY_OFF(name) { 0, 'x', 'o', name, NULL, 0, 0 }
#define KEYS_END { UINT16_MAX, 0, 0, NULL, NULL, 0, 0 }

/* The settings of Llama and of most that came after it. */
#define KEYS_LLAMA_OR(eps, theta) \
    KEYS_SIZES, KEY_KV_HEADS, KEYS_HEAD_DIM, KEY_FF, KEY_MAX_LEN, KEY_ROT, KEY_RMS_EPS(eps), \
    KEYS_THETA_OR(theta)
#define KEYS_LLAMA KEYS_LLAMA_OR(1e-6, 10000)

/* --- slots.  NB = SLOT_NO_BIAS; modules of layers, and their part of the name. */
#define NB SLOT_NO_BIAS
#define ROW_EMBED(hf) { SLOT_EMBED, SITE_EMBED, NB, DIM_VOCAB, DIM_MODEL, hf, "token_embd" }
#define ROW_NORM(slot, flags, dim, hf, gguf) { slot, SITE_NORM, flags, DIM_ONE, dim, hf, gguf }
#define ROW_LINEAR(slot, flags, out, in, hf, gguf) { slot, SITE_LINEAR, flags, out, in, hf, gguf }
#define ROW_FINAL_NORM(flags, hf) ROW_NORM(SLOT_FINAL_NORM, flags, DIM_MODEL, hf, "output_norm")
#define ROW_LM_HEAD(flags, hf) \
    ROW_LINEAR(SLOT_LM_HEAD, SLOT_OPTIONAL | SLOT_HEAD | (flags), DIM_VOCAB, DIM_MODEL, hf, \
               "output")
/* Modules of heads.  The classifier of sequences, of tokens, and of answers. */
#define FOR(head) ((uint32_t)SLOT_FOR << (head))
#define FOR_SEQUENCE (FOR(HEAD_CLASS) | FOR(HEAD_MULTI) | FOR(HEAD_REGRESS) | FOR(HEAD_REWARD))
#define FOR_OUTPUT (FOR_SEQUENCE | FOR(HEAD_TOKENS) | FOR(HEAD_SPAN))
#define OF_HEAD (SLOT_OPTIONAL | SLOT_HEAD | SLOT_OF_HEAD)
#define ROW_OUTPUT(flags, hf) \
    ROW_LINEAR(SLOT_CLASSIFIER, OF_HEAD | (flags), DIM_LABELS, DIM_MODEL, hf, NULL)
#define ROW_CLASSIFIER(flags, hf) ROW_OUTPUT(FOR_SEQUENCE | (flags), hf)
#define ROW_TOKENS(hf) ROW_OUTPUT(FOR(HEAD_TOKENS), hf)
#define ROW_SPAN ROW_OUTPUT(FOR(HEAD_SPAN), "qa_outputs")
#define ROW_HEAD_DENSE(flags, hf) \
    ROW_LINEAR(SLOT_POOLER, OF_HEAD | (flags), DIM_MODEL, DIM_MODEL, hf, NULL)
/* A masked language model: act(dense), norm, the embeddings (or a matrix of
 * its own), bias. */
#define ROWS_MASKED_OUT(decoder, bias) \
    ROW_LINEAR(SLOT_LM_HEAD, SLOT_OPTIONAL | SLOT_HEAD | NB | FOR(HEAD_MASKED), DIM_VOCAB, \
               DIM_MODEL, decoder, NULL), \
    { SLOT_LM_BIAS, SITE_BIAS, OF_HEAD | FOR(HEAD_MASKED), DIM_ONE, DIM_VOCAB, bias, NULL }
#define ROWS_MASKED(dense, norm, decoder, bias) \
    ROW_LINEAR(SLOT_LM_DENSE, OF_HEAD | FOR(HEAD_MASKED), DIM_MODEL, DIM_MODEL, dense, NULL), \
    ROW_NORM(SLOT_LM_NORM, OF_HEAD | FOR(HEAD_MASKED), DIM_MODEL, norm, NULL), \
    ROWS_MASKED_OUT(decoder, bias)
#define ROWS_END { 0, 0, 0, 0, 0, NULL, NULL }

/* Llama's names.  `rows` is SLOT_ROPE_ROWS where GGUF interleaves q and k. */
#define LLAMA_LAYER "model.layers.%d."
#define ROWS_LLAMA_QKV(rows) \
    ROW_LINEAR(SLOT_Q, rows, DIM_Q, DIM_MODEL, LLAMA_LAYER "self_attn.q_proj", "blk.%d.attn_q"), \
    ROW_LINEAR(SLOT_K, rows, DIM_KV, DIM_MODEL, LLAMA_LAYER "self_attn.k_proj", "blk.%d.attn_k"), \
    ROW_LINEAR(SLOT_V, 0, DIM_KV, DIM_MODEL, LLAMA_LAYER "self_attn.v_proj", "blk.%d.attn_v")
#define ROWS_LLAMA_QK_NORM(dim_q, dim_k) \
    ROW_NORM(SLOT_Q_NORM, SLOT_OPTIONAL | NB, dim_q, LLAMA_LAYER "self_attn.q_norm", \
             "blk.%d.attn_q_norm"), \
    ROW_NORM(SLOT_K_NORM, SLOT_OPTIONAL | NB, dim_k, LLAMA_LAYER "self_attn.k_norm", \
             "blk.%d.attn_k_norm")
#define ROW_LLAMA_O \
    ROW_LINEAR(SLOT_O, 0, DIM_MODEL, DIM_Q, LLAMA_LAYER "self_attn.o_proj", "blk.%d.attn_output")
#define ROWS_LLAMA_FFN \
    ROW_LINEAR(SLOT_GATE, 0, DIM_FF, DIM_MODEL, LLAMA_LAYER "mlp.gate_proj", "blk.%d.ffn_gate"), \
    ROW_LINEAR(SLOT_UP, 0, DIM_FF, DIM_MODEL, LLAMA_LAYER "mlp.up_proj", "blk.%d.ffn_up"), \
    ROW_LINEAR(SLOT_DOWN, 0, DIM_MODEL, DIM_FF, LLAMA_LAYER "mlp.down_proj", "blk.%d.ffn_down")
#define ROWS_LLAMA_TOP \
    ROW_FINAL_NORM(NB, "model.norm"), ROW_LM_HEAD(0, "lm_head"), ROWS_SCORE

#define ROWS_SCORE ROW_CLASSIFIER(NB, "score"), ROW_TOKENS("score"), ROW_SPAN

/* Divisors of rotary frequencies, which only GGUF has as tensors: longrope's,
 * and Llama 3's. */
#define ROW_DIVISORS(slot, gguf) \
    ROW_NORM(slot, SLOT_OPTIONAL | NB | SLOT_NOT_A_WEIGHT, DIM_ROT_HALF, NULL, gguf)
#define ROWS_ROPE_LONG \
    ROW_DIVISORS(SLOT_ROPE_SHORT, "rope_factors_short"), \
    ROW_DIVISORS(SLOT_ROPE_LONG, "rope_factors_long")
#define ROWS_ROPE_DIVISORS ROW_DIVISORS(SLOT_ROPE_FREQS, "rope_freqs"), ROWS_ROPE_LONG

#define CLASSES(stem) stem "ForCausalLM", stem "ForSequenceClassification", stem "Model"

#endif
