// Attention of whole sequences, as Python asks for it; `whole.py` holds the same structure.
#pragma once
#include "abi.h"

extern "C" {

// q, y: (batch, heads, queries, width); k, v: (batch, kv_heads, keys, width); bf16, with strides of the first three axes in
// numbers. causal: query i sees the keys up to keys - queries + i, of them the last `window`. scratch: `beholder_whole_scratch` bytes, at a multiple of
// 64. parallel: runs work in so many threads, null for this one alone.
struct Whole {
    const uint16_t *q, *k, *v, *y;
    int64_t q_strides[3], k_strides[3], v_strides[3], y_strides[3];
    int64_t batch, heads, kv_heads, queries, keys, width, window;
    uint8_t* scratch;
    Parallel parallel;
    int32_t threads, causal;
    float scale;  // above 0
};
}

int64_t whole_scratch(const Whole& w);
void attend_whole(const Whole& w);
