// Attention over a grid, float32, for CPUs: see __init__.py for what is computed and why it is enough.
//
// Letters: B batch, N queries, R rows of the grid (all axes but the last), Q columns (the last axis), P columns filled up to a multiple of 16,
// M = R Q tokens, C data channels. Arrays lie without gaps, the last letter fastest; N is a multiple of QB, and Q one of 16 where channels are few.
// Per query: a (B N C), row (B N R), col (B N P). Per token: x (B C M), inv (B M), and bias (B M), which is added to a score, or null.
//
// A score is u inv + bias with u = a.x + row + col, a weight p = exp(score - lse), and what is summed is p inv. Tokens come in tiles of whole rows,
// whose scores stay in the first cache; queries come in blocks that share each load of a tile. Up to FEW channels are multiplied and summed up on the
// way, in registers. More are matrix products by themselves, of a copy of the tile: channels of x itself lie so far apart that they push each other
// out of the caches.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

namespace {

#ifdef __AVX512F__
constexpr int W = 16, HIGH = 8;  // floats of a vector; rows of a block of a product, which is up to 3 vectors wide and fills the registers
#elif defined __AVX__
constexpr int W = 8, HIGH = 4;
#else
constexpr int W = 4, HIGH = 4;
#endif
constexpr int QB = 8;          // queries of a block
constexpr int PAIR = 2;        // of them, those whose sums stay in registers
constexpr int FEW = 8;         // channels, at most, that are few
constexpr int64_t TILE = 512;  // tokens of a tile, about
// Queries, at most, that one task of the forward pass takes through all tiles: with few channels, and with many, whose tiles are copied for each.
constexpr int64_t SUPER = 32, MANY = 1024;
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;

typedef float V __attribute__((vector_size(4 * W), aligned(4), may_alias));
typedef float V4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t I __attribute__((vector_size(4 * W), aligned(4), may_alias));

inline V all(float x) { return V{} + x; }
inline V load(const float* p) { return *reinterpret_cast<const V*>(p); }
inline void store(float* p, V x) { *reinterpret_cast<V*>(p) = x; }

// All floats of a vector together.
template <typename F> inline float fold(V x, F both) {
    V4 q = *reinterpret_cast<V4*>(&x);
    for (int i = 1; i < W / 4; ++i) q = both(q, *(reinterpret_cast<V4*>(&x) + i));
    return both(both(q[0], q[2]), both(q[1], q[3]));
}
inline float sum(V x) { return fold(x, [](auto a, auto b) { return a + b; }); }
inline float greatest(V x) { return fold(x, [](auto a, auto b) { return a > b ? a : b; }); }

// 2^x for x <= 0, to 1e-7 of its value; zero where that is below 2^-126. NaN stays NaN.
inline V exp2_of(V x) {
    x = all(-127.f) > x ? all(-127.f) : x;
    const V magic = all(12582912.f + 127);  // 1.5 * 2^23: adding it rounds to a whole number, which then stands in the last bits, as an exponent
    const V rounded = x + magic, f = x - (rounded - magic);
    V p = all(0.001327647129073739f);  // minimax polynomial of 2^f on [-1/2, 1/2]
    for (float k : {0.009675540961325169f, 0.05550713092088699f, 0.24022120237350464f, 0.6931469440460205f, 1.0000001192092896f}) p = p * f + k;
    return p * (V)((I)rounded << 23);  // the exponent of -127 is that of zero
}

inline int64_t over(int64_t size, int64_t by) { return (size + by - 1) / by; }
inline int64_t filled(int64_t size, int64_t to) { return over(size, to) * to; }

// Floats that begin where a vector may, zeros at first.
struct Buffer {
    struct alignas(64) Line { float x[16] = {}; };
    std::vector<Line> lines;
    explicit Buffer(int64_t size) : lines(size / 16 + 1) {}
    operator float*() { return lines.data()->x; }
};

struct Grid {
    int64_t N, R, Q, C;
    bool turned;  // x lies (B M C) instead
    int64_t M = R * Q, P = filled(Q, 16), channels = filled(C, 16), few = C > FEW ? 0 : C;
    int64_t most = std::max<int64_t>(1, TILE / Q), even = W / std::gcd(W, Q);
    int64_t height = few || most < even ? most : most - most % even;  // rows of a tile: many channels fill whole vectors, if few rows together do
};

// Arrays of tokens; bias, d_x and d_inv may be null.
struct Tokens {
    const float *x, *inv, *bias;
    float *d_x, *d_inv;
};

// A tile: scores of a query follow `wide` after those of the one before, channels of x `step`. With many channels its arrays are copies of what is
// `there`, `turned` is x with `channels` floats a token, and gradients begin at zero.
struct Tile : Tokens {
    Tokens there;
    int64_t first, count, tokens, wide, step;
    float *turned, *s, *z, *spare;
};

// Takes one tile after another, for one thread.
class Tiles {
    const Grid g;
    const Tokens all;
    const int64_t most = filled(g.height * g.Q, W) + W, size = g.few ? 0 : most;  // a last vector may reach over the end
    Buffer s{2 * QB * most}, x{g.channels * size}, turned{g.channels * size}, inv{size}, bias{size}, d_x{g.channels * size}, d_inv{size};
    Buffer spare{2 * QB * g.channels};
  public:
    Tiles(const Grid& g, const Tokens& all) : g(g), all(all) {}

    Tile take(int64_t b, int64_t first, int64_t count) {
        const int64_t at = first * g.Q, tokens = count * g.Q, wide = g.few ? tokens : filled(tokens, W);
        const auto from = [&](auto* array, int64_t size, int64_t at) { return array ? array + b * size * g.M + at : nullptr; };
        const Tokens there{from(all.x, g.C, g.turned ? at * g.C : at), all.inv + b * g.M + at, from(all.bias, 1, at), from(all.d_x, g.C, at),
                           from(all.d_inv, 1, at)};
        if (g.few) return {there, there, first, count, tokens, wide, g.M, nullptr, s, s + QB * wide, nullptr};
        const auto copy = [&](const float* in, int64_t step, float* out, int64_t until) {
            for (int64_t t = 0; t < tokens; ++t) out[t] = in[t * step];
            std::fill(out + tokens, out + until, 0.f);
        };
        for (int64_t c = 0; c < g.C; ++c) copy(there.x + c * (g.turned ? 1 : g.M), g.turned ? g.C : 1, x + c * wide, wide);
        for (int64_t above = 0; above < g.C; above += W)  // so few at a time that their lines stay in the first cache
            for (int64_t t = 0; t < tokens; ++t)
                for (int64_t c = above; c < std::min(g.C, above + W); ++c) turned[t * g.channels + c] = x[c * wide + t];
        copy(there.inv, 1, inv, most);
        if (there.bias) copy(there.bias, 1, bias, most);
        if (there.d_x) std::fill(d_x + 0, d_x + g.channels * wide, 0.f);
        std::fill(d_inv + 0, d_inv + most, 0.f);
        const Tokens own{x, inv, there.bias ? bias + 0 : nullptr, d_x, there.d_inv ? d_inv + 0 : nullptr};
        return {own, there, first, count, tokens, wide, wide, turned, s, s + QB * wide, spare};
    }

    // Puts the gradients of a tile where they belong.
    void give(const Tile& tile) const {
        if (!g.few && tile.d_inv) std::copy_n(tile.d_inv, tile.tokens, tile.there.d_inv);
        for (int64_t c = 0; !g.few && tile.there.d_x && c < g.C; ++c) std::copy_n(tile.d_x + c * tile.wide, tile.tokens, tile.there.d_x + c * g.M);
    }
};

// HIGH rows and COUNT vectors of a product, which stay in registers.
template <int COUNT>
void block(const float* a, int64_t down, int64_t along, const float* b, int64_t b_step, int64_t depth, float* out, int64_t out_step, bool add) {
    V s[HIGH][COUNT];
    for (int i = 0; i < HIGH; ++i)
        for (int j = 0; j < COUNT; ++j) s[i][j] = add ? load(out + i * out_step + j * W) : V{};
    for (int64_t k = 0; k < depth; ++k) {
        V right[COUNT];
        for (int j = 0; j < COUNT; ++j) right[j] = load(b + k * b_step + j * W);
        for (int i = 0; i < HIGH; ++i)
            for (int j = 0; j < COUNT; ++j) s[i][j] += a[i * down + k * along] * right[j];
    }
    for (int i = 0; i < HIGH; ++i)
        for (int j = 0; j < COUNT; ++j) store(out + i * out_step + j * W, s[i][j]);
}

// out[i][j] = sum over k of a[i][k] b[k][j], or added to what is there. a[i][k] stands at i down + k along; rows are a multiple of QB, columns of W.
void product(const float* a, int64_t down, int64_t along, int64_t rows, const float* b, int64_t b_step, int64_t depth, int64_t columns, float* out,
             int64_t out_step, bool add = false) {
    for (int64_t j = 0, count; j < columns; j += count * W) {
        const int64_t left = (columns - j) / W;
        count = left == 4 ? 2 : std::min<int64_t>(left, 3);  // one alone would wait for itself
        const auto part = count == 3 ? block<3> : count == 2 ? block<2> : block<1>;
        for (int64_t i = 0; i < rows; i += HIGH) part(a + i * down, down, along, b + j, b_step, depth, out + i * out_step + j, out_step, add);
    }
}

// out[q][t] = sum over c of a[q][c] x[c][t].
void scores(const Grid& g, const Tile& tile, const float* a, float* out) {
    product(a, g.C, 1, QB, tile.x, tile.step, g.C, tile.wide, out, tile.wide);
}

// out[q][c] += sum over t of s[q][t] x[c][t].
void gather(const Grid& g, const Tile& tile, float* out) {
    product(tile.s, tile.wide, 1, QB, tile.turned, g.channels, tile.tokens, g.channels, tile.spare, g.channels);
    for (int q = 0; q < QB; ++q)
        for (int64_t c = 0; c < g.C; ++c) out[q * g.C + c] += tile.spare[q * g.channels + c];
}

// d_x[c][t] += sum over q of s[q][t] a[q][c] + z[q][t] b[q][c].
void scatter(const Grid& g, const Tile& tile, const float* a, const float* b) {
    for (int q = 0; q < 2 * QB; ++q) std::copy_n(q < QB ? a + q * g.C : b + (q - QB) * g.C, g.C, tile.spare + q * g.channels);
    product(tile.spare, 1, g.channels, filled(g.C, QB), tile.s, tile.wide, 2 * QB, tile.wide, tile.d_x, tile.wide, true);
}

struct Forward {
    const float *a, *row, *col;
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
            for (int64_t t = 0; t < g.P; t += W) store(f.cols + q * g.P + t, load(f.cols + q * g.P + t) * shrink);
            now.top[q] = m;
        }
    }
}

// Of the vector at column t, what is in its row: all of it with few channels (C > 0, as below), else the last one may reach into the next row.
template <int C> inline V within(const Grid& g, int64_t t, V x, V otherwise) {
    I lane;
    for (int i = 0; i < W; ++i) lane[i] = i;
    return C ? x : lane < (int32_t)(g.Q - t) ? x : otherwise;
}

// One tile for one block of queries; `shift` keeps for each query what the weights of the tile are relative to. C is the number of channels where
// they are few, and 0 where they are many. All is given by value: what is stored could else change it, for all that the compiler knows.
template <int C>
void forward_tile(const Grid g, const Forward f, const Tile tile, Running& now, float* shift, int64_t shift_step) {
    if (!C) scores(g, tile, f.a, tile.s);
    V big[QB];
    for (int q = 0; q < QB; ++q) big[q] = all(-3e38f);
    for (int64_t r = 0; r < tile.count; ++r)
        for (int64_t t = 0; t < g.Q; t += W) {
            const int64_t at = r * g.Q + t;
            const V inv = load(tile.inv + at) * LOG2E;
            V x[C + 1];
            for (int c = 0; c < C; ++c) x[c] = load(tile.x + c * tile.step + at);
            for (int q = 0; q < QB; ++q) {
                float* place = tile.s + q * tile.wide + at;
                V u = load(f.col + q * g.P + t) + f.row[q * g.R + tile.first + r];
                if (!C) u += load(place);
                for (int c = 0; c < C; ++c) u += f.a[q * C + c] * x[c];
                u *= inv;
                if (tile.bias) u += load(tile.bias + at);
                big[q] = within<C>(g, t, big[q] > u ? big[q] : u, big[q]);
                store(place, within<C>(g, t, u, load(place)));
            }
        }
    raise(g, f, big, now);
    for (int from = 0; from < QB; from += PAIR) {
        V sums[PAIR][C + 1] = {}, total[PAIR] = {};
        float top[PAIR];
        for (int h = 0; h < PAIR; ++h) shift[(from + h) * shift_step] = top[h] = now.top[from + h];
        for (int64_t r = 0; r < tile.count; ++r) {
            V across[PAIR] = {};
            for (int64_t t = 0; t < g.Q; t += W) {
                const int64_t at = r * g.Q + t;
                const V inv = load(tile.inv + at);
                V x[C + 1];
                for (int c = 0; c < C; ++c) x[c] = load(tile.x + c * tile.step + at);
                for (int h = 0; h < PAIR; ++h) {
                    const int q = from + h;
                    float* place = tile.s + q * tile.wide + at;
                    V p = within<C>(g, t, exp2_of(load(place) - top[h]), V{});
                    total[h] += p;
                    p *= inv;
                    across[h] += p;
                    store(f.cols + q * g.P + t, load(f.cols + q * g.P + t) + p);
                    for (int c = 0; c < C; ++c) sums[h][c] += p * x[c];
                    if (!C) store(place, within<C>(g, t, p, load(place)));
                }
            }
            for (int h = 0; h < PAIR; ++h) f.rows[(from + h) * g.R + tile.first + r] = sum(across[h]);
        }
        for (int h = 0; h < PAIR; ++h) {
            now.total[from + h] += total[h];
            for (int c = 0; c < C; ++c) f.sums[(from + h) * C + c] += sum(sums[h][c]);
        }
    }
    if (!C) gather(g, tile, f.sums);
}

struct Backward {
    const float *a, *row, *col, *lse, *delta, *g_sums, *g_rows, *g_cols;
    float *d_a, *d_row, *d_col;
};

// One tile for one block of queries. With G = g_sums.x + g_rows + g_cols, the gradient of a score is p (inv G - delta). C as in forward_tile; X says
// whether x has a gradient, which few channels add to on the way.
template <int C, bool X>
void backward_tile(const Grid g, const Backward f, const Tile tile) {
    if (!C) scores(g, tile, f.a, tile.s), scores(g, tile, f.g_sums, tile.z);
    for (int from = 0; from < QB; from += PAIR) {
        V sums[PAIR][C + 1] = {};
        for (int64_t r = 0; r < tile.count; ++r) {
            V across[PAIR] = {};
            for (int64_t t = 0; t < g.Q; t += W) {
                const int64_t at = r * g.Q + t;
                const V inv = load(tile.inv + at);
                V x[C + 1], d_x[C + 1] = {}, d_inv = {};
                for (int c = 0; c < C; ++c) x[c] = load(tile.x + c * tile.step + at);
                for (int h = 0; h < PAIR; ++h) {
                    const int q = from + h;
                    float *place = tile.s + q * tile.wide + at, *other = tile.z + q * tile.wide + at;
                    V u = load(f.col + q * g.P + t) + f.row[q * g.R + tile.first + r];
                    V G = load(f.g_cols + q * g.P + t) + f.g_rows[q * g.R + tile.first + r];
                    if (!C) u += load(place), G += load(other);
                    for (int c = 0; c < C; ++c) u += f.a[q * C + c] * x[c], G += f.g_sums[q * C + c] * x[c];
                    V score = (u * inv - f.lse[q]) * LOG2E;
                    if (tile.bias) score += load(tile.bias + at);
                    const V p = within<C>(g, t, exp2_of(score), V{}), d_score = p * (inv * G - f.delta[q]), d_u = d_score * inv;
                    across[h] += d_u;
                    store(f.d_col + q * g.P + t, load(f.d_col + q * g.P + t) + d_u);
                    d_inv += d_score * u + p * G;
                    for (int c = 0; c < C; ++c) {
                        sums[h][c] += d_u * x[c];
                        if (X) d_x[c] += f.a[q * C + c] * d_u + f.g_sums[q * C + c] * (p * inv);
                    }
                    if (!C) store(place, within<C>(g, t, d_u, load(place))), store(other, within<C>(g, t, p * inv, load(other)));
                }
                if (tile.d_inv) store(tile.d_inv + at, load(tile.d_inv + at) + d_inv);
                for (int c = 0; X && c < C; ++c) store(tile.d_x + c * tile.step + at, load(tile.d_x + c * tile.step + at) + d_x[c]);
            }
            for (int h = 0; h < PAIR; ++h) f.d_row[(from + h) * g.R + tile.first + r] = sum(across[h]);
        }
        for (int h = 0; h < PAIR; ++h)
            for (int c = 0; c < C; ++c) f.d_a[(from + h) * C + c] += sum(sums[h][c]);
    }
    if (!C && X) scatter(g, tile, f.a, f.g_sums);
    if (!C) gather(g, tile, f.d_a);
}

constexpr decltype(&forward_tile<0>) forward_tiles[FEW + 1] = {forward_tile<0>, forward_tile<1>, forward_tile<2>, forward_tile<3>, forward_tile<4>,
                                                               forward_tile<5>, forward_tile<6>, forward_tile<7>, forward_tile<8>};
template <bool X>
constexpr decltype(&backward_tile<0, X>) backward_tiles[FEW + 1] = {
    backward_tile<0, X>, backward_tile<1, X>, backward_tile<2, X>, backward_tile<3, X>, backward_tile<4, X>,
    backward_tile<5, X>, backward_tile<6, X>, backward_tile<7, X>, backward_tile<8, X>};

}  // namespace

extern "C" {
// Fills lse (B N), the logarithm of the sum of all exp(score), and sums (B N C), rows (B N R), cols (B N P): p inv times x, over rows, over columns.
void grid_forward(int64_t B, int64_t N, int64_t R, int64_t Q, int64_t C, int64_t turned, const float* a, const float* row, const float* col,
                  const float* x, const float* inv, const float* bias, float* lse, float* sums, float* rows, float* cols, int threads) {
    const Grid g{N, R, Q, C, turned != 0};
    const int64_t P = g.P, height = g.height, tiles = over(R, height), blocks = N / QB;
    const int64_t rounds = over(B * blocks, threads * (g.few ? SUPER : MANY) / QB);  // tasks of a thread
    const int64_t super = over(B * blocks, rounds * threads) * QB, supers = over(N, super);
    const auto forward = forward_tiles[g.few];
#pragma omp parallel num_threads(threads)
    {
        Tiles own(g, {x, inv, bias, nullptr, nullptr});
        std::vector<float> shift(super * tiles);
        std::vector<Running> now(super / QB);
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < B * supers; ++i) {
            const int64_t b = i / supers, from = (i % supers) * super, until = std::min(N, from + super);
            std::fill(sums + (b * N + from) * C, sums + (b * N + until) * C, 0.f);
            std::fill(cols + (b * N + from) * P, cols + (b * N + until) * P, 0.f);
            for (Running& one : now)
                for (int q = 0; q < QB; ++q) one.top[q] = -INFINITY, one.total[q] = V{};
            for (int64_t j = 0; j < tiles; ++j) {
                const Tile tile = own.take(b, j * height, std::min(height, R - j * height));
                for (int64_t n = from; n < until; n += QB) {
                    const int64_t k = b * N + n;
                    const Forward f{a + k * C, row + k * R, col + k * P, lse + k, sums + k * C, rows + k * R, cols + k * P};
                    forward(g, f, tile, now[(n - from) / QB], shift.data() + (n - from) * tiles + j, tiles);
                }
            }
            for (int64_t n = from; n < until; ++n) {
                const int64_t k = b * N + n, q = n % QB;
                const Running& one = now[(n - from) / QB];
                const float total = sum(one.total[q]), share = 1 / total;
                lse[k] = (one.top[q] + std::log2(total)) * LN2;
                for (int64_t c = 0; c < C; ++c) sums[k * C + c] *= share;
                for (int64_t t = 0; t < Q; ++t) cols[k * P + t] *= share;
                for (int64_t r = 0; r < R; r += height) {
                    const float scale = share * std::exp2(shift[(n - from) * tiles + r / height] - one.top[q]);
                    for (int64_t i = r; i < std::min(R, r + height); ++i) rows[k * R + i] *= scale;
                }
            }
        }
    }
}

// Fills d_row, and adds to the others, which hold zeros: d_a (B S N C) and d_col (B S N P) apart for each of S stretches of rows, d_x and d_inv where
// they are not null. delta (B N) is the sum of g_sums.sums, g_rows.rows and g_cols.cols, less the gradient of lse.
void grid_backward(int64_t B, int64_t N, int64_t R, int64_t Q, int64_t C, int64_t turned, int64_t S, const float* a, const float* row,
    const float* col, const float* x, const float* inv, const float* bias, const float* lse, const float* delta, const float* g_sums,
    const float* g_rows, const float* g_cols, float* d_a, float* d_row, float* d_col, float* d_x, float* d_inv, int threads) {
    const Grid g{N, R, Q, C, turned != 0};
    const int64_t P = g.P, height = g.height;
    const auto backward = (d_x ? backward_tiles<true> : backward_tiles<false>)[g.few];
#pragma omp parallel num_threads(threads)
    {
        Tiles own(g, {x, inv, bias, d_x, d_inv});
#pragma omp for schedule(dynamic)
        for (int64_t i = 0; i < B * S; ++i) {
            const int64_t b = i / S, part = i % S, from = part * R / S, until = (part + 1) * R / S;
            for (int64_t r = from; r < until; r += height) {
                const Tile tile = own.take(b, r, std::min(height, until - r));
                for (int64_t n = 0; n < N; n += QB) {
                    const int64_t k = b * N + n, l = i * N + n;
                    const Backward f{a + k * C,      row + k * R,    col + k * P, lse + k,       delta + k,  g_sums + k * C,
                                     g_rows + k * R, g_cols + k * P, d_a + l * C, d_row + k * R, d_col + l * P};
                    backward(g, f, tile);
                }
                own.give(tile);
            }
        }
    }
}
}
