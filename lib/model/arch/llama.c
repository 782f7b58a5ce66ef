/* Llama 1-3, SmolLM2, TinyLlama, Mistral, and Qwen 2 and 3, which add biases
 * (Qwen 2) or norms of q and k (Qwen 3): pre-norm RMS blocks with rotary
 * positions, grouped heads and a gated SiLU feed-forward. */
#include "model/arch.h"

#define AT(field) offsetof(struct hparams, field)

/* Mistral takes all rows, Llama those after the first, Qwen those after the
 * second: other config.json's carry a sliding_window that the model does not
 * use, and in GGUF a llama with a window is Mistral. */
static const struct key llama_keys[] = {
    { AT(window), 'i', 'o', "sliding_window", NULL, 0, 1 << 30 },
    { AT(window), 'i', 'o', NULL, "attention.sliding_window", 0, 1 << 30 },
    { AT(layers), 'i', 'r', "num_hidden_layers", "block_count", 0, 4096 },
    { AT(dim), 'i', 'r', "hidden_size", "embedding_length", 0, 1 << 20 },
    { AT(heads), 'i', 'r', "num_attention_heads", "attention.head_count", 0, 1 << 16 },
    { AT(kv_heads), 'i', 'o', "num_key_value_heads", "attention.head_count_kv", 0, 1 << 16 },
    { AT(head_dim), 'i', 'o', "head_dim", "attention.key_length", 0, 1 << 16 },
    { AT(ff), 'i', 'r', "intermediate_size", "feed_forward_length", 0, 1 << 24 },
    { AT(max_len), 'i', 'o', "max_position_embeddings", "context_length", 2048, 1 << 30 },
    { AT(rot), 'i', 'o', NULL, "rope.dimension_count", 0, 1 << 16 },
    { AT(eps), 'f', 'o', "rms_norm_eps", "attention.layer_norm_rms_epsilon", 1e-6, 0 },
    { AT(theta), 'f', 'o', "rope_parameters.rope_theta", "rope.freq_base", 0, 0 },
    { AT(theta), 'f', 'o', "rope_theta", NULL, 10000, 0 },
    { UINT16_MAX, 0, 0, NULL, NULL, 0, 0 }
};

static const struct slot_row llama_slots[] = {
    { SLOT_EMBED, SITE_EMBED, SLOT_NO_BIAS, DIM_VOCAB, DIM_MODEL, "model.embed_tokens",
      "token_embd" },
    { SLOT_ATTN_NORM, SITE_NORM, SLOT_NO_BIAS, DIM_ONE, DIM_MODEL,
      "model.layers.%d.input_layernorm", "blk.%d.attn_norm" },
    { SLOT_Q, SITE_LINEAR, SLOT_ROPE_ROWS, DIM_Q, DIM_MODEL, "model.layers.%d.self_attn.q_proj",
      "blk.%d.attn_q" },
    { SLOT_K, SITE_LINEAR, SLOT_ROPE_ROWS, DIM_KV, DIM_MODEL, "model.layers.%d.self_attn.k_proj",
      "blk.%d.attn_k" },
    { SLOT_V, SITE_LINEAR, 0, DIM_KV, DIM_MODEL, "model.layers.%d.self_attn.v_proj",
      "blk.%d.attn_v" },
    { SLOT_Q_NORM, SITE_NORM, SLOT_OPTIONAL | SLOT_NO_BIAS, DIM_ONE, DIM_HEAD,
      "model.layers.%d.self_attn.q_norm", "blk.%d.attn_q_norm" },
    { SLOT_K_NORM, SITE_NORM, SLOT_OPTIONAL | SLOT_NO_BIAS, DIM_ONE, DIM_HEAD,
      "model.layers.%d.self_attn.k_norm", "blk.%d.attn_k_norm" },
    { SLOT_O, SITE_LINEAR, 0, DIM_MODEL, DIM_Q, "model.layers.%d.self_attn.o_proj",
      "blk.%d.attn_output" },
    { SLOT_FFN_NORM, SITE_NORM, SLOT_NO_BIAS, DIM_ONE, DIM_MODEL,
      "model.layers.%d.post_attention_layernorm", "blk.%d.ffn_norm" },
    { SLOT_GATE, SITE_LINEAR, 0, DIM_FF, DIM_MODEL, "model.layers.%d.mlp.gate_proj",
      "blk.%d.ffn_gate" },
    { SLOT_UP, SITE_LINEAR, 0, DIM_FF, DIM_MODEL, "model.layers.%d.mlp.up_proj", "blk.%d.ffn_up" },
    { SLOT_DOWN, SITE_LINEAR, 0, DIM_MODEL, DIM_FF, "model.layers.%d.mlp.down_proj",
      "blk.%d.ffn_down" },
    { SLOT_FINAL_NORM, SITE_NORM, SLOT_NO_BIAS, DIM_ONE, DIM_MODEL, "model.norm", "output_norm" },
    { SLOT_LM_HEAD, SITE_LINEAR, SLOT_OPTIONAL | SLOT_HEAD, DIM_VOCAB, DIM_MODEL, "lm_head",
      "output" },
    { SLOT_CLASSIFIER, SITE_LINEAR, SLOT_OPTIONAL | SLOT_HEAD | SLOT_NO_BIAS, DIM_LABELS, DIM_MODEL,
      "score", NULL },
    { SLOT_ROPE_FREQS, SITE_NORM, SLOT_OPTIONAL | SLOT_NO_BIAS | SLOT_NOT_A_WEIGHT, DIM_ONE,
      DIM_ROT_HALF, NULL, "rope_freqs" },
    { 0, 0, 0, 0, 0, NULL, NULL }
};

#define LLAMA_STYLE(pair) \
    { NORM_RMS, NORM_PRE, POS_ROPE, 1, 1, POOL_LAST, pair }

const struct arch arch_llama = {
    "llama", "llama", "LlamaForCausalLM", "LlamaForSequenceClassification", "LlamaModel", "model.",
    LLAMA_STYLE(1), llama_keys + 1, llama_slots
};
const struct arch arch_mistral = {
    "mistral", NULL, "MistralForCausalLM", "MistralForSequenceClassification", "MistralModel",
    "model.", LLAMA_STYLE(1), llama_keys, llama_slots
};
const struct arch arch_qwen2 = {
    "qwen2", "qwen2", "Qwen2ForCausalLM", "Qwen2ForSequenceClassification", "Qwen2Model", "model.",
    LLAMA_STYLE(0), llama_keys + 2, llama_slots
};
const struct arch arch_qwen3 = {
    "qwen3", "qwen3", "Qwen3ForCausalLM", "Qwen3ForSequenceClassification", "Qwen3Model", "model.",
    LLAMA_STYLE(0), llama_keys + 2, llama_slots
};
