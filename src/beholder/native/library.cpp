// The functions that Python calls: which instruction sets there are, and a step with one of them.
#include <new>

#include "abi.h"
#include "threads.h"
#include "whole.h"
#if defined(__linux__)
#include <sys/mman.h>
#if defined(__aarch64__)
#include <sys/auxv.h>
#endif
#endif

#define EXPORTED extern "C" __attribute__((visibility("default")))
#define DECLARED(name)                               \
    void name(const Decoder&, const Step&, Crew&); \
    void name(const Product&);                     \
    int64_t name(const Product*);                  \
    void name(const Heads&);                       \
    void name(const Active&)

DECLARED(step_portable);
#if defined(__x86_64__)
DECLARED(step_avx2);
DECLARED(step_avx2_vnni);
DECLARED(step_avx512);
DECLARED(step_avx512_vnni);
DECLARED(step_avx512_bf16);
#elif defined(__aarch64__)
DECLARED(step_neon);
DECLARED(step_neon_dot);
#endif

namespace {

using StepFunction = void (*)(const Decoder&, const Step&, Crew&);

struct InstructionSet {
    const char* name;
    bool (*found)();
    StepFunction step;
    void (*product)(const Product&);
    int64_t (*scratch)(const Product*);
    void (*heads)(const Heads&);
    void (*active)(const Active&);
};

#define SET(name) {#name, has_##name, step_##name, step_##name, step_##name, step_##name, step_##name}

#if defined(__x86_64__)
bool has_avx2() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}
bool has_avx2_vnni() {  // leaf 7.1, EAX bit 4; the compiler's own test is newer than the compilers that we take
    uint32_t a = 7, b = 0, c = 1, d = 0;
    __asm__("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
    return has_avx2() && (a >> 4 & 1);
}
bool has_avx512() {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_avx512_bf16() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }
#elif defined(__aarch64__)
bool has_neon_dot() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & (1 << 20);  // HWCAP_ASIMDDP
#else
    return true;  // every Apple processor of this kind
#endif
}
#endif
#if defined(__aarch64__)
bool has_neon() { return true; }
#endif
bool has_portable() { return true; }

const InstructionSet kSets[] = {  // best first
#if defined(__x86_64__)
    SET(avx512_bf16), SET(avx512_vnni), SET(avx512), SET(avx2_vnni), SET(avx2),
#elif defined(__aarch64__)
    SET(neon_dot), SET(neon),
#endif
    SET(portable),
};
constexpr int32_t kNumSets = sizeof(kSets) / sizeof(kSets[0]);

struct Work {
    const Decoder& decoder;
    const Step& step;
    StepFunction function;
};

void run(void* argument, Crew& crew) {
    const Work& work = *static_cast<Work*>(argument);
    work.function(work.decoder, work.step, crew);
}

}  // namespace

EXPORTED int32_t beholder_abi() { return kAbi; }

// The name of instruction set `number`, best first, or null beyond the last. usable: whether this processor has it.
EXPORTED const char* beholder_set(int32_t number, int32_t* usable) {
    if (number < 0 || number >= kNumSets) return nullptr;
    *usable = kSets[number].found();
    return kSets[number].name;
}

EXPORTED int64_t beholder_scratch(const Decoder* decoder, int64_t rows, int32_t threads) {
    return Scratch::of(*decoder, rows, threads).total;
}

// Logits of one more token of each row, with instruction set `number`.
EXPORTED void beholder_step(const Decoder* decoder, const Step* step, int32_t number, int32_t threads) {
    Work work{*decoder, *step, kSets[number].step};
    const Scratch sizes = Scratch::of(*decoder, step->rows, threads);
    const Phases phases{reinterpret_cast<std::atomic<int64_t>*>(step->scratch + sizes.at_phases), sizes.phases};
    for (int64_t i = 0; i < (1 + threads) * sizes.phases; ++i) new (phases.numbers + i) std::atomic<int64_t>(0);
    run_together(run, &work, phases, threads);
}

EXPORTED int64_t beholder_product_scratch(const Product* product, int32_t number) { return kSets[number].scratch(product); }

// Many rows times a matrix, with instruction set `number`.
EXPORTED void beholder_product(const Product* product, int32_t number) { kSets[number].product(*product); }

// Rows normed and turned, and rows activated, with instruction set `number`.
EXPORTED void beholder_heads(const Heads* heads, int32_t number) { kSets[number].heads(*heads); }
EXPORTED void beholder_active(const Active* active, int32_t number) { kSets[number].active(*active); }

// Memory that attention of whole sequences needs; 0 where this processor has no kernel for it.
EXPORTED int64_t beholder_whole_scratch(const Whole* w) {
#if defined(__x86_64__)
    if (has_avx512_bf16()) return whole_scratch(*w);
#endif
    (void)w;
    return 0;
}

EXPORTED void beholder_attend_whole(const Whole* w) {
#if defined(__x86_64__)
    attend_whole(*w);
#endif
    (void)w;
}

// Ask for large pages under memory that is about to be filled: fewer misses in tables of pages.
EXPORTED void beholder_large_pages(void* memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    const uintptr_t unit = 1 << 21, begin = (uintptr_t(memory) + unit - 1) / unit * unit;
    const uintptr_t end = (uintptr_t(memory) + uintptr_t(bytes)) / unit * unit;
    if (end > begin) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
#endif
    (void)memory, (void)bytes;
}
