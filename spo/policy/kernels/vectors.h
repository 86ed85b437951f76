/* Vectors of float32 for whatever instructions the compiler is told that there are, and products of matrices. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#define TILE_ROWS 12
#define SUMS 24 /* vectors that can be added up in registers */
#define KEEP(x) __asm__("" : "+v"(x)) /* in a register: gcc would rather load it again for every product */
#else
#define LANES 8
#define TILE_ROWS 6
#define SUMS 12
#define KEEP(x)
#endif
#define PANEL (2 * LANES)
#define UP(n, to) (((n) + (to)-1) / (to) * (to))
#define EACH _Pragma("GCC unroll 16") for
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vec load(const float *at) { return *(const loose *)at; }
INLINE void store(float *at, vec x) { *(loose *)at = x; }
INLINE vec pick(ivec where, vec yes, vec no) { return (vec)((where & (ivec)yes) | (~where & (ivec)no)); }
INLINE vec larger(vec a, vec b) { return pick(a > b, a, b); }

/* exp of numbers up to 0 by a polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, expf), to 2e-7 of its value; 0 below -87. */
INLINE vec exponential(vec x) {
    const vec magic = (vec){0} + 12582912.0f; /* 1.5 * 2**23: adding it rounds to an integer, in the low bits */
    const ivec large = x > -87.0f;
    vec shifted = x * 1.44269504088896341f + magic;
    ivec power = (ivec)shifted << 23;
    vec n = shifted - magic;
    x = x - n * 0.693359375f;
    x = x + n * 2.12194440e-4f;
    vec y = x * 1.9875691500e-4f + 1.3981999507e-3f;
    y = y * x + 8.3334519073e-3f;
    y = y * x + 4.1665795894e-2f;
    y = y * x + 1.6666665459e-1f;
    y = y * x + 5.0000001201e-1f;
    y = y * (x * x) + (x + 1.0f);
    return (vec)(((ivec)y + power) & large);
}

INLINE vec silu(vec x) {
    vec small = exponential(-larger(x, -x));
    return pick(x > 0.0f, x, x * small) / (1.0f + small);
}

INLINE float highest(vec x) {
    float parts[LANES], top = -INFINITY;
    store(parts, x);
#pragma omp simd reduction(max : top)
    for (int i = 0; i < LANES; i++) top = parts[i] > top ? parts[i] : top;
    return top;
}

/* What becomes of a product: it is scaled, and given a bias; added to what is there; gated, halving its columns. */
enum { SCALED, ADDED, GATED };

INLINE void tile(int what, int rows, const float *a, int64_t a_width, const float *panel, int64_t inputs,
                 const float *scale, const float *bias, float *out, int64_t out_width) {
    const vec zero = {0};
    vec one[TILE_ROWS], two[TILE_ROWS];
    EACH(int r = 0; r < rows; r++) one[r] = two[r] = zero;
    for (int64_t i = 0; i < inputs; i++, panel += PANEL) {
        vec x = load(panel), y = load(panel + LANES);
        KEEP(x);
        KEEP(y);
        EACH(int r = 0; r < rows; r++) {
            one[r] += a[r * a_width + i] * x;
            two[r] += a[r * a_width + i] * y;
        }
    }
    EACH(int r = 0; r < rows; r++) {
        float *at = out + r * out_width;
        if (what == GATED) {
            store(at, silu(one[r] * scale[r]) * (two[r] * scale[r]));
        } else if (what == ADDED) {
            store(at, load(at) + one[r]);
            store(at + LANES, load(at + LANES) + two[r]);
        } else {
            store(at, one[r] * scale[r] + (bias ? load(bias) : zero));
            store(at + LANES, two[r] * scale[r] + (bias ? load(bias + LANES) : zero));
        }
    }
}

INLINE void product(int what, int64_t rows, const float *a, int64_t a_width, const float *panels, int64_t inputs,
                    int64_t outputs, const float *scale, const float *bias, float *out, int64_t out_width) {
    const int64_t step = what == GATED ? PANEL / 2 : PANEL;
    for (int64_t j = 0; j < outputs; j += PANEL, panels += inputs * PANEL, out += step, bias += bias ? PANEL : 0) {
        int64_t r = 0;
#define TILES(n) \
    for (; r + n <= rows; r += n) \
        tile(what, n, a + r * a_width, a_width, panels, inputs, scale + r, bias, out + r * out_width, out_width)
        TILES(TILE_ROWS);
        TILES(4);
        TILES(1);
    }
}
