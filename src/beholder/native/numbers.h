// Numbers of either type in memory, and functions of sixteen at a time. Included after a simd header.
#pragma once
#include "abi.h"

namespace {

inline F read(const uint16_t* p) { return load_bf16(p); }
inline F read(const float* p) { return load(p); }
inline F read_some(const uint16_t* p, int count) { return load_some_bf16(p, count); }
inline F read_some(const float* p, int count) { return load_some(p, count); }
inline void write(uint16_t* p, F x) { store_bf16(p, x); }
inline void write(float* p, F x) { store(p, x); }

template <class T>
inline void write_some(T* p, F x, int64_t count) {  // all sixteen where there are as many
    if (count >= 16) return write(p, x);
    T kept[16];
    write(kept, x);
    __builtin_memcpy(p, kept, sizeof(T) * count);
}

inline F exponential(F x) {  // Cephes' expf: 2^n e^r with |r| <= ln 2 / 2, within two units in the last place
    x = smaller(larger(x, all(-87.0f)), all(88.0f));
    const F n = nearest(mul(x, all(1.44269504f)));
    F r = fma(n, all(-0.693359375f), x);
    r = fma(n, all(2.12194440e-4f), r);
    F y = fma(all(1.9875691500e-4f), r, all(1.3981999507e-3f));
    y = fma(y, r, all(8.3334519073e-3f));
    y = fma(y, r, all(4.1665795894e-2f));
    y = fma(y, r, all(1.6666665459e-1f));
    y = fma(y, r, all(5.0000001201e-1f));
    return times_power_of_two(add(fma(mul(r, r), y, r), all(1.0f)), n);
}

inline F over_one_plus_exponential(F x, F s) { return divide(x, add(all(1.0f), exponential(s))); }

// max(x, 0) - |x| erfc(|x| / sqrt 2) / 2, erfc by Abramowitz and Stegun 7.1.26, within 1.5e-7.
inline F gelu(F x) {
    const F z = mul(absolute(x), all(0.70710678f));
    const F t = divide(all(1.0f), fma(z, all(0.3275911f), all(1.0f)));
    F y = fma(all(1.061405429f), t, all(-1.453152027f));
    y = fma(y, t, all(1.421413741f));
    y = fma(y, t, all(-0.284496736f));
    y = fma(y, t, all(0.254829592f));
    const F tail = mul(mul(y, t), exponential(mul(mul(z, z), all(-1.0f))));
    return fma(mul(absolute(x), tail), all(-0.5f), larger(x, zero()));
}

// Logistic ones are x sigmoid(s(x)): SiLU s(x) = x; tanh's GELU s(x) = 2 sqrt(2 / pi) (x + 0.044715 x^3).
inline F activated(F x, int32_t activation) {
    switch (activation) {
        case kSilu: return over_one_plus_exponential(x, mul(x, all(-1.0f)));
        case kGeluTanh: {
            const F s = mul(mul(x, all(-1.5957691216f)), fma(mul(x, x), all(0.044715f), all(1.0f)));
            return over_one_plus_exponential(x, s);
        }
        case kGelu: return gelu(x);
        case kQuickGelu: return over_one_plus_exponential(x, mul(x, all(-1.702f)));
        case kRelu: return larger(x, zero());
        default: {  // kReluSquared
            const F above = larger(x, zero());
            return mul(above, above);
        }
    }
}

}  // namespace
