// CUDA C++ on a CPU, to test kernels without a GPU: enough of the language for kernels whose warps never wait for each
// other. Each lane of a warp is a fiber. A collective (ballot, shuffle, __syncwarp) ends a lane's turn, and returns once
// all 32 lanes have reached it. So shared memory depends on the order of the turns: a missing __syncwarp shows as a
// result that changes with the order.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__ static
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

struct float4 {
    float x, y, z, w;
};

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __ffs(unsigned x) { return __builtin_ffs((int)x); }

namespace emulated {

constexpr int kLanes = 32;
constexpr std::size_t kStack = 256 * 1024;

enum class Collective { none, ballot, shuffle, sync };

struct Lane {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(kStack);
    Collective waits_at = Collective::none;
    unsigned operand = 0, result = 0;
    int partner = 0; // the lane to read from, in a shuffle
    bool done = false;
};

struct Warp {
    std::array<Lane, kLanes> lanes;
    ucontext_t scheduler;
    int running = 0;
    int first_thread = 0; // of the warp within its block
    const std::pair<void (*)(void*), void*>* work = nullptr;
};

inline Warp warp;
inline dim3 block_index, block_size;

inline void fail(const char* what) {
    std::fprintf(stderr, "a kernel misuses a warp: %s\n", what);
    std::abort();
}

inline void lane_main() {
    warp.work->first(warp.work->second);
    warp.lanes[warp.running].done = true;
    swapcontext(&warp.lanes[warp.running].context, &warp.scheduler);
}

// Called by a lane: wait until the whole warp has reached this collective.
inline unsigned meet(Collective collective, unsigned mask, unsigned operand, int partner = 0) {
    if (mask != 0xffffffffu) fail("a collective on part of the warp");
    Lane& lane = warp.lanes[warp.running];
    lane.waits_at = collective;
    lane.operand = operand;
    lane.partner = partner;
    swapcontext(&lane.context, &warp.scheduler);
    return lane.result;
}

inline void resolve() {
    const Collective collective = warp.lanes[0].waits_at;
    unsigned ballot = 0;
    for (int i = 0; i < kLanes; ++i) {
        if (warp.lanes[i].done) fail("a lane returned while others wait for it");
        if (warp.lanes[i].waits_at != collective) fail("lanes wait at different collectives");
        if (collective == Collective::ballot && warp.lanes[i].operand) ballot |= 1u << i;
    }
    for (Lane& lane : warp.lanes) {
        lane.result = collective == Collective::ballot ? ballot : warp.lanes[lane.partner].operand;
        lane.waits_at = Collective::none;
    }
}

inline void run_warp(const std::vector<int>& order) {
    for (Lane& lane : warp.lanes) {
        lane.done = false;
        lane.waits_at = Collective::none;
        getcontext(&lane.context);
        lane.context.uc_stack.ss_sp = lane.stack.data();
        lane.context.uc_stack.ss_size = lane.stack.size();
        lane.context.uc_link = nullptr;
        makecontext(&lane.context, lane_main, 0);
    }
    for (;;) {
        for (int lane : order) {
            if (warp.lanes[lane].done) continue;
            warp.running = lane;
            swapcontext(&warp.scheduler, &warp.lanes[lane].context);
        }
        if (std::all_of(warp.lanes.begin(), warp.lanes.end(), [](const Lane& lane) { return lane.done; })) return;
        resolve();
    }
}

inline dim3 thread_index() { return {(unsigned)(warp.first_thread + warp.running), 0, 0}; }

// Run a kernel whose arguments have 8 bytes each; the seed chooses the order of the lanes' turns.
template <class... Parameters, std::size_t... places>
void launch(void (*kernel)(Parameters...), const std::uint64_t* arguments, std::index_sequence<places...>) {
    static_assert(((sizeof(Parameters) == 8) && ...), "pointers, long long and double alone");
    std::tuple<Parameters...> values;
    (std::memcpy(&std::get<places>(values), arguments + places, 8), ...);
    kernel(std::get<places>(values)...);
}

template <class... Parameters>
void run(void (*kernel)(Parameters...), long long grid, int block, const std::uint64_t* arguments, int seed) {
    struct Call {
        void (*kernel)(Parameters...);
        const std::uint64_t* arguments;
    } call = {kernel, arguments};
    const std::pair<void (*)(void*), void*> work = {
        [](void* it) {
            const Call& call = *(Call*)it;
            launch(call.kernel, call.arguments, std::index_sequence_for<Parameters...>());
        },
        &call};
    warp.work = &work;
    block_size.x = (unsigned)block;
    std::uint32_t state = (std::uint32_t)seed;
    for (long long b = 0; b < grid; ++b) {
        block_index.x = (unsigned)b;
        for (int first = 0; first < block; first += kLanes) {
            std::vector<int> order(kLanes);
            for (int i = 0; i < kLanes; ++i) order[i] = i;
            for (int i = kLanes - 1; seed && i > 0; --i) {
                state = state * 1664525u + 1013904223u;
                std::swap(order[i], order[(state >> 8) % (i + 1)]);
            }
            warp.first_thread = first;
            run_warp(order);
        }
    }
}

} // namespace emulated

#define threadIdx (emulated::thread_index())
#define blockIdx (emulated::block_index)
#define blockDim (emulated::block_size)

inline unsigned __ballot_sync(unsigned mask, bool predicate) {
    return emulated::meet(emulated::Collective::ballot, mask, predicate);
}

inline void __syncwarp(unsigned mask) { emulated::meet(emulated::Collective::sync, mask, 0); }

template <class T>
T __shfl_xor_sync(unsigned mask, T value, int across) {
    static_assert(sizeof(T) == 4, "");
    unsigned bits;
    std::memcpy(&bits, &value, 4);
    bits = emulated::meet(emulated::Collective::shuffle, mask, bits, emulated::warp.running ^ across);
    std::memcpy(&value, &bits, 4);
    return value;
}

// Lanes run one at a time, and so do warps.
inline float atomicAdd(float* to, float value) {
    const float before = *to;
    *to = before + value;
    return before;
}

#define EMULATE(NAME) \
    if (std::strcmp(name, #NAME) == 0) return emulated::run(NAME, grid, block, arguments, seed);
