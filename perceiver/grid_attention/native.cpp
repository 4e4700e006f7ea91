// Attention over a grid, float32, for CPUs: see __init__.py for what is computed and why it is enough.
//
// Letters: B batch, N queries, R rows of the grid (all axes but the last), Q columns (the last axis), M = R Q tokens, C data channels.
// Arrays lie without gaps, the last letter fastest; N is a multiple of QB and Q of W. Per query: a (B N C), row (B N R), col (B N Q). Per token:
// x (B C M), inv (B M), and bias (B M), which is added to a score, or null.
//
// A score is u inv + bias with u = a.x + row + col, a weight p = exp(score - lse), and what is summed is p inv. Tokens come in tiles of whole rows,
// whose scores stay in the first cache; queries come in blocks that share each load of a tile.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int W = 16;          // floats of a vector
constexpr int QB = 8;          // queries of a block
constexpr int FEW = 2;         // of them, those whose sums stay in registers
constexpr int64_t TILE = 512;  // tokens of a tile, about
constexpr int64_t SUPER = 32;  // queries that one task of the forward pass takes through all tiles
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
constexpr float LOWEST = -3e38f;

typedef float V __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(4 * W), aligned(4), may_alias));

inline V all(float x) { return V{} + x; }
inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
inline void store(float* p, V x) { *reinterpret_cast<V*>(p) = x; }
inline V greater(V a, V b) { return a > b ? a : b; }

inline float sum(V x) {
    float s = 0;
    for (int i = 0; i < W; ++i) s += x[i];
    return s;
}

inline float greatest(V x) {
    float s = x[0];
    for (int i = 1; i < W; ++i) s = std::max(s, x[i]);
    return s;
}

// 2^x for x <= 0, to 1e-7 of its value; zero where that is below 2^-126. NaN stays NaN.
inline V exp2_of(V x) {
    const I tiny = x < all(-126.f);
    x = tiny ? all(-126.f) : x;
    const V magic = all(12582912.f);  // 1.5 * 2^23: adding it rounds to a whole number, which then stands in the last bits
    const V rounded = x + magic;
    const V f = x - (rounded - magic);
    V p = all(0.001327647129073739f);  // minimax polynomial of 2^f on [-1/2, 1/2]
    p = p * f + 0.009675540961325169f;
    p = p * f + 0.05550713092088699f;
    p = p * f + 0.24022120237350464f;
    p = p * f + 0.6931469440460205f;
    p = p * f + 1.0000001192092896f;
    const I exponent = (I)rounded - 0x4B400000 + 127;
    return tiny ? V{} : p * (V)(exponent << 23);
}

struct Grid {
    int64_t N, R, Q, C, M;
};

// out[q][t] = sum over c of w[q][c] x[c][t], for a block of queries and a tile of tokens.
void scores(const Grid& g, const float* w, const float* x, int64_t tokens, float* out) {
    int64_t t = 0;
    for (; t + 2 * W <= tokens; t += 2 * W) {
        V s[QB][2] = {};
        for (int64_t c = 0; c < g.C; ++c) {
            const V x0 = load(x + c * g.M + t), x1 = load(x + c * g.M + t + W);
            for (int q = 0; q < QB; ++q) {
                s[q][0] += w[q * g.C + c] * x0;
                s[q][1] += w[q * g.C + c] * x1;
            }
        }
        for (int q = 0; q < QB; ++q) store(out + q * tokens + t, s[q][0]), store(out + q * tokens + t + W, s[q][1]);
    }
    for (; t < tokens; t += W) {
        V s[QB] = {};
        for (int64_t c = 0; c < g.C; ++c) {
            const V x0 = load(x + c * g.M + t);
            for (int q = 0; q < QB; ++q) s[q] += w[q * g.C + c] * x0;
        }
        for (int q = 0; q < QB; ++q) store(out + q * tokens + t, s[q]);
    }
}

// out[q][c] += sum over t of w[q][t] x[c][t].
void gather(const Grid& g, const float* w, const float* x, int64_t tokens, float* out) {
    int64_t c = 0;
    for (; c + 4 <= g.C; c += 4) {
        V s[QB][4] = {};
        for (int64_t t = 0; t < tokens; t += W) {
            V xv[4];
            for (int k = 0; k < 4; ++k) xv[k] = load(x + (c + k) * g.M + t);
            for (int q = 0; q < QB; ++q) {
                const V p = load(w + q * tokens + t);
                for (int k = 0; k < 4; ++k) s[q][k] += p * xv[k];
            }
        }
        for (int q = 0; q < QB; ++q)
            for (int k = 0; k < 4; ++k) out[q * g.C + c + k] += sum(s[q][k]);
    }
    for (; c < g.C; ++c) {
        V s[QB] = {};
        for (int64_t t = 0; t < tokens; t += W) {
            const V xv = load(x + c * g.M + t);
            for (int q = 0; q < QB; ++q) s[q] += load(w + q * tokens + t) * xv;
        }
        for (int q = 0; q < QB; ++q) out[q * g.C + c] += sum(s[q]);
    }
}

// out[c][t] += sum over q of w[q][t] a[q][c].
void scatter(const Grid& g, const float* w, const float* a, int64_t tokens, float* out) {
    for (int64_t c = 0; c < g.C; ++c)
        for (int64_t t = 0; t < tokens; t += W) {
            V s = load(out + c * g.M + t);
            for (int q = 0; q < QB; ++q) s += a[q * g.C + c] * load(w + q * tokens + t);
            store(out + c * g.M + t, s);
        }
}

struct Forward {
    const float *a, *row, *col, *x, *inv, *bias;
    float *lse, *sums, *rows, *cols;
};

// What is known of a block of queries while it goes through the tiles. Weights are relative to 2^top.
struct Running {
    float top[QB];
    V total[QB];
};

// The shift follows the greatest score of each query so far, and what was summed up before with it.
void raise(const Grid& g, const Forward& f, const V* big, Running& now) {
    for (int q = 0; q < QB; ++q) {
        const float m = greatest(big[q]);
        if (m > now.top[q]) {
            const float shrink = std::exp2(now.top[q] - m);
            now.total[q] *= shrink;
            for (int64_t c = 0; c < g.C; ++c) f.sums[q * g.C + c] *= shrink;
            for (int64_t t = 0; t < g.Q; t += W) store(f.cols + q * g.Q + t, load(f.cols + q * g.Q + t) * shrink);
            now.top[q] = m;
        }
    }
}

// One tile for one block of queries; `first` is its first row, `shift` (QB R) keeps what the weights of each row are relative to.
//
// C is the number of channels where it is small and known, and 0 where it is not: few channels are multiplied and summed up on the way, many of them in
// blocks by themselves.
template <int C>
void forward_tile(const Grid& g, const Forward& f, int64_t first, int64_t count, Running& now, float* shift, float* s) {
    const int64_t start = first * g.Q, tokens = count * g.Q;
    if (!C) scores(g, f.a, f.x + start, tokens, s);
    V big[QB];
    for (int q = 0; q < QB; ++q) big[q] = all(LOWEST);
    for (int64_t r = 0; r < count; ++r)
        for (int64_t t = 0; t < g.Q; t += W) {
            const int64_t at = start + r * g.Q + t;
            const V inv = load(f.inv + at) * LOG2E;
            V x[C + 1];
            for (int c = 0; c < C; ++c) x[c] = load(f.x + c * g.M + at);
            for (int q = 0; q < QB; ++q) {
                float* place = s + q * tokens + r * g.Q + t;
                V u = load(f.col + q * g.Q + t) + f.row[q * g.R + first + r];
                if (!C) u += load(place);
                for (int c = 0; c < C; ++c) u += f.a[q * C + c] * x[c];
                u *= inv;
                if (f.bias) u += load(f.bias + at);
                big[q] = greater(big[q], u);
                store(place, u);
            }
        }
    raise(g, f, big, now);
    for (int from = 0; from < QB; from += FEW) {
        V sums[FEW][C + 1] = {}, total[FEW] = {};
        float top[FEW];
        for (int h = 0; h < FEW; ++h) top[h] = now.top[from + h];
        for (int64_t r = 0; r < count; ++r) {
            V across[FEW] = {};
            for (int64_t t = 0; t < g.Q; t += W) {
                const int64_t at = start + r * g.Q + t;
                const V inv = load(f.inv + at);
                V x[C + 1];
                for (int c = 0; c < C; ++c) x[c] = load(f.x + c * g.M + at);
                for (int h = 0; h < FEW; ++h) {
                    const int q = from + h;
                    float* place = s + q * tokens + r * g.Q + t;
                    V p = exp2_of(load(place) - top[h]);
                    total[h] += p;
                    p *= inv;
                    across[h] += p;
                    store(f.cols + q * g.Q + t, load(f.cols + q * g.Q + t) + p);
                    for (int c = 0; c < C; ++c) sums[h][c] += p * x[c];
                    if (!C) store(place, p);
                }
            }
            for (int h = 0; h < FEW; ++h) {
                const int64_t at = (from + h) * g.R + first + r;
                f.rows[at] = sum(across[h]), shift[at] = top[h];
            }
        }
        for (int h = 0; h < FEW; ++h) {
            now.total[from + h] += total[h];
            for (int c = 0; c < C; ++c) f.sums[(from + h) * C + c] += sum(sums[h][c]);
        }
    }
    if (!C) gather(g, s, f.x + start, tokens, f.sums);
}

struct Backward {
    const float *a, *row, *col, *x, *inv, *bias, *lse, *delta, *g_sums, *g_rows, *g_cols;
    float *d_a, *d_row, *d_col, *d_x, *d_inv;
};

// One tile for one block of queries. With G = g_sums.x + g_rows + g_cols, the gradient of a score is p (inv G - delta). C as in forward_tile; X says
// whether x has a gradient, which few channels add to on the way.
template <int C, bool X>
void backward_tile(const Grid& g, const Backward& f, int64_t first, int64_t count, float* s, float* z) {
    const int64_t start = first * g.Q, tokens = count * g.Q;
    if (!C) scores(g, f.a, f.x + start, tokens, s), scores(g, f.g_sums, f.x + start, tokens, z);
    for (int from = 0; from < QB; from += FEW) {
        V sums[FEW][C + 1] = {};
        for (int64_t r = 0; r < count; ++r) {
            V across[FEW] = {};
            for (int64_t t = 0; t < g.Q; t += W) {
                const int64_t at = start + r * g.Q + t;
                const V inv = load(f.inv + at);
                V x[C + 1], d_x[C + 1] = {}, d_inv = {};
                for (int c = 0; c < C; ++c) x[c] = load(f.x + c * g.M + at);
                for (int h = 0; h < FEW; ++h) {
                    const int q = from + h;
                    float *place = s + q * tokens + r * g.Q + t, *other = z + q * tokens + r * g.Q + t;
                    V u = load(f.col + q * g.Q + t) + f.row[q * g.R + first + r];
                    V G = load(f.g_cols + q * g.Q + t) + f.g_rows[q * g.R + first + r];
                    if (!C) u += load(place), G += load(other);
                    for (int c = 0; c < C; ++c) u += f.a[q * C + c] * x[c], G += f.g_sums[q * C + c] * x[c];
                    V score = u * inv * LOG2E - f.lse[q] * LOG2E;
                    if (f.bias) score += load(f.bias + at);
                    const V p = exp2_of(score), d_score = p * (inv * G - f.delta[q]), d_u = d_score * inv;
                    across[h] += d_u;
                    store(f.d_col + q * g.Q + t, load(f.d_col + q * g.Q + t) + d_u);
                    d_inv += d_score * u + p * G;
                    for (int c = 0; c < C; ++c) {
                        sums[h][c] += d_u * x[c];
                        if (X) d_x[c] += f.a[q * C + c] * d_u + f.g_sums[q * C + c] * (p * inv);
                    }
                    if (!C) store(place, d_u), store(other, p * inv);
                }
                if (f.d_inv) store(f.d_inv + at, load(f.d_inv + at) + d_inv);
                if (X)
                    for (int c = 0; c < C; ++c) store(f.d_x + c * g.M + at, load(f.d_x + c * g.M + at) + d_x[c]);
            }
            for (int h = 0; h < FEW; ++h) f.d_row[(from + h) * g.R + first + r] = sum(across[h]);
        }
        for (int h = 0; h < FEW; ++h)
            for (int c = 0; c < C; ++c) f.d_a[(from + h) * C + c] += sum(sums[h][c]);
    }
    if (C) return;
    gather(g, s, f.x + start, tokens, f.d_a);
    if (X) {
        scatter(g, s, f.a, tokens, f.d_x + start);
        scatter(g, z, f.g_sums, tokens, f.d_x + start);
    }
}

auto chosen_forward(int64_t channels) {
    return channels == 1   ? forward_tile<1>
           : channels == 2 ? forward_tile<2>
           : channels == 3 ? forward_tile<3>
           : channels == 4 ? forward_tile<4>
                           : forward_tile<0>;
}

template <bool X>
auto chosen_backward(int64_t channels) {
    return channels == 1   ? backward_tile<1, X>
           : channels == 2 ? backward_tile<2, X>
           : channels == 3 ? backward_tile<3, X>
           : channels == 4 ? backward_tile<4, X>
                           : backward_tile<0, X>;
}

}  // namespace

extern "C" {

// Fills lse (B N), sums (B N C), rows (B N R), cols (B N Q): the logarithm of the sum of all exp(score), and p inv summed times x, over rows, columns.
void grid_forward(int64_t B, int64_t N, int64_t R, int64_t Q, int64_t C, const float* a, const float* row, const float* col, const float* x,
                  const float* inv, const float* bias, float* lse, float* sums, float* rows, float* cols, int threads) {
    const Grid g{N, R, Q, C, R * Q};
    const int64_t supers = (N + SUPER - 1) / SUPER, height = std::max<int64_t>(1, TILE / Q);
    const auto tile = chosen_forward(C);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> s(QB * height * Q), shift(SUPER * R);
        std::vector<Running> now(SUPER / QB);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < B * supers; ++i) {
            const int64_t b = i / supers, from = (i % supers) * SUPER, until = std::min(N, from + SUPER);
            const auto block = [&](int64_t n) {
                const int64_t k = b * N + n;
                return Forward{a + k * C, row + k * R,  col + k * Q,  x + b * C * g.M, inv + b * g.M, bias ? bias + b * g.M : nullptr,
                               lse + k,   sums + k * C, rows + k * R, cols + k * Q};
            };
            std::memset(sums + (b * N + from) * C, 0, (until - from) * C * sizeof(float));
            std::memset(cols + (b * N + from) * Q, 0, (until - from) * Q * sizeof(float));
            for (Running& one : now)
                for (int q = 0; q < QB; ++q) one.top[q] = -std::numeric_limits<float>::infinity(), one.total[q] = all(0);
            for (int64_t r = 0; r < R; r += height)
                for (int64_t n = from; n < until; n += QB)
                    tile(g, block(n), r, std::min(height, R - r), now[(n - from) / QB], shift.data() + (n - from) * R, s.data());
            for (int64_t n = from; n < until; ++n) {
                const Running& one = now[(n - from) / QB];
                const int q = (n - from) % QB;
                const int64_t k = b * N + n;
                const float total = sum(one.total[q]), share = 1 / total;
                lse[k] = (one.top[q] + std::log2(total)) * LN2;
                for (int64_t c = 0; c < C; ++c) sums[k * C + c] *= share;
                for (int64_t t = 0; t < Q; ++t) cols[k * Q + t] *= share;
                for (int64_t r = 0; r < R; ++r) rows[k * R + r] *= share * std::exp2(shift[(n - from) * R + r] - one.top[q]);
            }
        }
    }
}

// Fills d_row, and adds to the others, which hold zeros: d_a (B P N C) and d_col (B P N Q) apart for each of P stretches of rows, d_x and d_inv where
// they are not null. delta (B N) is the sum of g_sums.sums, g_rows.rows and g_cols.cols, less the gradient of lse.
void grid_backward(int64_t B, int64_t N, int64_t R, int64_t Q, int64_t C, int64_t P, const float* a, const float* row, const float* col,
                   const float* x, const float* inv, const float* bias, const float* lse, const float* delta, const float* g_sums,
                   const float* g_rows, const float* g_cols, float* d_a, float* d_row, float* d_col, float* d_x, float* d_inv, int threads) {
    const Grid g{N, R, Q, C, R * Q};
    const int64_t height = std::max<int64_t>(1, TILE / Q);
    const auto tile = d_x ? chosen_backward<true>(C) : chosen_backward<false>(C);
#pragma omp parallel num_threads(threads)
    {
        std::vector<float> s(QB * height * Q), z(QB * height * Q);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < B * P; ++i) {
            const int64_t b = i / P, part = i % P, from = part * R / P, until = (part + 1) * R / P;
            for (int64_t r = from; r < until; r += height)
                for (int64_t n = 0; n < N; n += QB) {
                    const int64_t k = b * N + n, own = i * N + n;
                    const Backward f{a + k * C,      row + k * R,    col + k * Q, x + b * C * g.M,  inv + b * g.M, bias ? bias + b * g.M : nullptr,
                                     lse + k,        delta + k,      g_sums + k * C, g_rows + k * R, g_cols + k * Q, d_a + own * C,
                                     d_row + k * R,  d_col + own * Q, d_x ? d_x + b * C * g.M : nullptr, d_inv ? d_inv + b * g.M : nullptr};
                    tile(g, f, r, std::min(height, until - r), s.data(), z.data());
                }
        }
    }
}
}
