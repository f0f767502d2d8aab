/* The functions of exported C files, a block for each. `rcdp_hpc.deploy.export.c99.library` writes the blocks that a
   model needs. A block starts with its name and the blocks that it calls. REAL becomes float or double, WEIGHT float
   or code. A value is the array of one sample in C order. */

//// dot
/* The sum of w[i] * x[i]. Eight partial sums round less than one, and compilers vectorise them. */
static float dot_WEIGHT(const WEIGHT *w, const float *x, int n)
{
    float part[8] = {0};
    int i, k;
    for (i = 0; i + 8 <= n; i += 8)
        for (k = 0; k < 8; k++)
            part[k] += (float)w[i + k] * x[i + k];
    for (; i < n; i++)
        part[0] += (float)w[i] * x[i];
    return ((part[0] + part[1]) + (part[2] + part[3])) + ((part[4] + part[5]) + (part[6] + part[7]));
}

//// sparse_dot
/* The sum of w[e] * x[columns[e]]. */
static float sparse_dot_WEIGHT(const WEIGHT *w, const column *columns, const float *x, int n)
{
    float part[4] = {0};
    int e, k;
    for (e = 0; e + 4 <= n; e += 4)
        for (k = 0; k < 4; k++)
            part[k] += (float)w[e + k] * x[columns[e + k]];
    for (; e < n; e++)
        part[0] += (float)w[e] * x[columns[e]];
    return (part[0] + part[1]) + (part[2] + part[3]);
}

//// linear: dot
/* y = scale * (W x) + b for each row of x, shape (rows, inputs). Without scale and b these are 1 and 0. */
static void linear_WEIGHT(const float *x, int rows, int inputs, int outputs, const WEIGHT *w, const float *scale,
                          const float *b, float *y)
{
    int r, o;
    for (r = 0; r < rows; r++, x += inputs, y += outputs)
        for (o = 0; o < outputs; o++) {
            float sum = dot_WEIGHT(w + (size_t)o * inputs, x, inputs);
            y[o] = (scale ? sum * scale[o] : sum) + (b ? b[o] : 0.0f);
        }
}

//// sparse_linear: sparse_dot
/* As linear, for the entries of W that are not 0: those of row o are start[o] .. start[o + 1] - 1. */
static void sparse_linear_WEIGHT(const float *x, int rows, int inputs, int outputs, const WEIGHT *w,
                                 const column *columns, const int *start, const float *scale, const float *b, float *y)
{
    int r, o;
    for (r = 0; r < rows; r++, x += inputs, y += outputs)
        for (o = 0; o < outputs; o++) {
            float sum = sparse_dot_WEIGHT(w + start[o], columns + start[o], x, start[o + 1] - start[o]);
            y[o] = (scale ? sum * scale[o] : sum) + (b ? b[o] : 0.0f);
        }
}

//// fill
/* NaN becomes the value of its last axis. */
static void fill_REAL(const REAL *x, int rows, int features, const double *values, REAL *y)
{
    int r, f;
    for (r = 0; r < rows; r++, x += features, y += features)
        for (f = 0; f < features; f++)
            y[f] = isnan(x[f]) ? (REAL)values[f] : x[f];
}

//// affine
/* (x - center) * scale + offset along the middle axis. */
static void affine(const float *x, int outer, int features, int inner, const float *center, const float *scale,
                   const float *offset, float *y)
{
    int o, f, i;
    for (o = 0; o < outer; o++)
        for (f = 0; f < features; f++)
            for (i = 0; i < inner; i++, x++, y++)
                *y = (*x - center[f]) * scale[f] + offset[f];
}

//// exact_affine
/* As affine, computed in double. */
static void exact_affine_REAL(const REAL *x, int outer, int features, int inner, const double *center,
                              const double *scale, const double *offset, float *y)
{
    int o, f, i;
    for (o = 0; o < outer; o++)
        for (f = 0; f < features; f++)
            for (i = 0; i < inner; i++, x++, y++)
                *y = (float)(((double)*x - center[f]) * scale[f] + offset[f]);
}

//// to_float
/* Samples as float. */
static void to_float_REAL(const REAL *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = (float)x[i];
}

//// permute
/* The axes in another order: y has the lengths n, and s are the steps between neighbours in x. */
static void permute_REAL(const REAL *x, int n0, int n1, int n2, int n3, int s0, int s1, int s2, int s3, REAL *y)
{
    int a, b, c, d;
    for (a = 0; a < n0; a++)
        for (b = 0; b < n1; b++)
            for (c = 0; c < n2; c++)
                for (d = 0; d < n3; d++)
                    *y++ = x[a * s0 + b * s1 + c * s2 + d * s3];
}

//// slice
/* Entries start, start + step, ... of the middle axis. */
static void slice_REAL(const REAL *x, int outer, int length, int inner, int start, int count, int step, REAL *y)
{
    int o, k, i;
    for (o = 0; o < outer; o++, x += (size_t)length * inner)
        for (k = 0; k < count; k++)
            for (i = 0; i < inner; i++)
                *y++ = x[(start + k * step) * inner + i];
}

//// gather
/* The entries of the middle axis with these indices. */
static void gather_REAL(const REAL *x, int outer, int length, int inner, const int *indices, int count, REAL *y)
{
    int o, k, i;
    for (o = 0; o < outer; o++, x += (size_t)length * inner)
        for (k = 0; k < count; k++)
            for (i = 0; i < inner; i++)
                *y++ = x[indices[k] * inner + i];
}

//// place
/* Blocks of x, each `block` values, go to every `distance` values of y. */
static void place_REAL(const REAL *x, int blocks, int block, int distance, REAL *y)
{
    int o, i;
    for (o = 0; o < blocks; o++, x += block, y += distance)
        for (i = 0; i < block; i++)
            y[i] = x[i];
}

//// overlapping
/* Blocks of x that start every `distance` values, one after the other. */
static void overlapping_REAL(const REAL *x, int blocks, int block, int distance, REAL *y)
{
    int o, i;
    for (o = 0; o < blocks; o++, x += distance)
        for (i = 0; i < block; i++)
            *y++ = x[i];
}

//// add
/* x + y; the s are the steps in y, 0 along an axis that y does not have. */
static void add(const float *x, const float *y, int n0, int n1, int n2, int n3, int s0, int s1, int s2, int s3,
                float *z)
{
    int a, b, c, d;
    for (a = 0; a < n0; a++)
        for (b = 0; b < n1; b++)
            for (c = 0; c < n2; c++)
                for (d = 0; d < n3; d++)
                    *z++ = *x++ + y[a * s0 + b * s1 + c * s2 + d * s3];
}

//// multiply
/* x * y; as add. */
static void multiply(const float *x, const float *y, int n0, int n1, int n2, int n3, int s0, int s1, int s2, int s3,
                     float *z)
{
    int a, b, c, d;
    for (a = 0; a < n0; a++)
        for (b = 0; b < n1; b++)
            for (c = 0; c < n2; c++)
                for (d = 0; d < n3; d++)
                    *z++ = *x++ * y[a * s0 + b * s1 + c * s2 + d * s3];
}

//// identity
static void identity(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i];
}

//// tangent
static void tangent(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = tanhf(x[i]);
}

//// logistic
static float logistic(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

//// sigmoid: logistic
static void sigmoid(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = logistic(x[i]);
}

//// relu
static void relu(const float *x, int n, float slope, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] > 0.0f ? x[i] : x[i] * slope;
}

//// gelu
static void gelu(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] * (1.0f + erff(x[i] * 0.70710678f)) * 0.5f;
}

//// clip
static void clip(const float *x, int n, float low, float high, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = x[i] < low ? low : x[i] > high ? high : x[i];
}

//// power
static void power(const float *x, int n, float exponent, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = powf(x[i], exponent);
}

//// logarithm
static void logarithm(const float *x, int n, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = logf(x[i]);
}

//// multiples
/* y = y + w * x. */
static void multiples(float w, const float *restrict x, int n, float *restrict y)
{
    int i, k;
    for (i = 0; i + 8 <= n; i += 8)
        for (k = 0; k < 8; k++)
            y[i + k] += w * x[i + k];
    for (; i < n; i++)
        y[i] += w * x[i];
}

//// conv2d: multiples
/* Cross-correlation of x (channels, height, width) with kernels (outputs, channels, high, wide), zeros around x. */
static void conv2d_WEIGHT(const float *x, int channels, int height, int width, const WEIGHT *kernels, int outputs,
                          int high, int wide, const float *scale, const float *b, int down, int across, int above,
                          int left, int rows, int columns, float *y)
{
    int o, c, u, v, i, j;
    for (o = 0; o < outputs; o++, y += (size_t)rows * columns) {
        for (i = 0; i < rows * columns; i++)
            y[i] = b ? b[o] : 0.0f;
        for (c = 0; c < channels; c++)
            for (u = 0; u < high; u++)
                for (v = 0; v < wide; v++) {
                    float w = (float)kernels[((o * channels + c) * high + u) * wide + v] * (scale ? scale[o] : 1.0f);
                    int first = 0, last = columns;
                    if (w == 0.0f)
                        continue;
                    while (first < last && first * across + v < left)
                        first++;
                    while (last > first && (last - 1) * across + v - left >= width)
                        last--;
                    for (i = 0; i < rows; i++) {
                        int row = i * down + u - above;
                        const float *from = x + ((size_t)c * height + row) * width + v - left;
                        float *to = y + (size_t)i * columns;
                        if (row < 0 || row >= height)
                            continue;
                        if (across == 1)
                            multiples(w, from + first, last - first, to + first);
                        else
                            for (j = first; j < last; j++)
                                to[j] += w * from[j * across];
                    }
                }
    }
}

//// max_pool
/* The largest value of each block of high x wide. */
static void max_pool(const float *x, int channels, int height, int width, int high, int wide, float *y)
{
    int c, i, j, u, v;
    for (c = 0; c < channels; c++, x += (size_t)height * width)
        for (i = 0; i < height / high; i++)
            for (j = 0; j < width / wide; j++) {
                float largest = x[i * high * width + j * wide];
                for (u = 0; u < high; u++)
                    for (v = 0; v < wide; v++) {
                        float value = x[(i * high + u) * width + j * wide + v];
                        largest = value > largest ? value : largest;
                    }
                *y++ = largest;
            }
}

//// layer_norm
/* Mean 0 and variance 1 along the last axis, then scale and offset. */
static void layer_norm(const float *x, int rows, int features, const float *scale, const float *offset,
                       double epsilon, float *y)
{
    int r, f;
    for (r = 0; r < rows; r++, x += features, y += features) {
        double mean = 0.0, variance = 0.0, factor;
        for (f = 0; f < features; f++)
            mean += x[f];
        mean /= features;
        for (f = 0; f < features; f++)
            variance += (x[f] - mean) * (x[f] - mean);
        factor = 1.0 / sqrt(variance / features + epsilon);
        for (f = 0; f < features; f++)
            y[f] = (float)((x[f] - mean) * factor) * scale[f] + offset[f];
    }
}

//// attention: dot
/* softmax(Q K' / sqrt(d)) V of each head; x has the steps [Q, K, V]. */
static void attention(const float *x, int steps, int width, int heads, float *y)
{
    int depth = width / heads, head, t, k, j;
    float factor = 1.0f / sqrtf((float)depth);
    for (head = 0; head < heads; head++)
        for (t = 0; t < steps; t++) {
            const float *query = x + (size_t)t * 3 * width + head * depth;
            float *to = y + (size_t)t * width + head * depth;
            float largest = -INFINITY, sum = 0.0f;
            for (k = 0; k < steps; k++) {
                float score = dot_float(query, x + (size_t)k * 3 * width + width + head * depth, depth) * factor;
                largest = score > largest ? score : largest;
            }
            for (j = 0; j < depth; j++)
                to[j] = 0.0f;
            for (k = 0; k < steps; k++) {
                const float *key = x + (size_t)k * 3 * width + width + head * depth;
                float weight = expf(dot_float(query, key, depth) * factor - largest);
                sum += weight;
                for (j = 0; j < depth; j++)
                    to[j] += weight * key[width + j];
            }
            for (j = 0; j < depth; j++)
                to[j] /= sum;
        }
}

//// lstm: dot, logistic
/* h of each step. The gates (steps, 4 units) hold W x + b, in the order i, f, g, o; i is replaced by c. */
static void lstm_WEIGHT(float *gates, int steps, int units, const WEIGHT *u, const float *scale, float *h)
{
    int t, j, k;
    for (t = 0; t < steps; t++, gates += 4 * units, h += units)
        for (j = 0; j < units; j++) {
            float gate[4], c = t ? gates[j - 4 * units] : 0.0f;
            for (k = 0; k < 4; k++) {
                int row = k * units + j;
                gate[k] = gates[row];
                if (t)
                    gate[k] += dot_WEIGHT(u + (size_t)row * units, h - units, units) * (scale ? scale[row] : 1.0f);
            }
            c = logistic(gate[1]) * c + logistic(gate[0]) * tanhf(gate[2]);
            gates[j] = c;
            h[j] = logistic(gate[3]) * tanhf(c);
        }
}

//// gru: dot, logistic
/* h of each step. The gates (steps, 3 units) hold W x + b, in the order r, z, m. */
static void gru_WEIGHT(const float *gates, int steps, int units, const WEIGHT *u, const float *scale, const float *d,
                       float *h)
{
    int t, j, k;
    for (t = 0; t < steps; t++, gates += 3 * units, h += units)
        for (j = 0; j < units; j++) {
            float hidden[3], r, z, m;
            for (k = 0; k < 3; k++) {
                int row = k * units + j;
                hidden[k] = d[row];
                if (t)
                    hidden[k] += dot_WEIGHT(u + (size_t)row * units, h - units, units) * (scale ? scale[row] : 1.0f);
            }
            r = logistic(gates[j] + hidden[0]);
            z = logistic(gates[units + j] + hidden[1]);
            m = tanhf(gates[2 * units + j] + r * hidden[2]);
            h[j] = (1.0f - z) * m + (t ? z * h[j - units] : 0.0f);
        }
}

//// softmax
static void softmax(const float *x, int n, float *y)
{
    float largest = x[0], sum = 0.0f;
    int i;
    for (i = 1; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (i = 0; i < n; i++)
        sum += y[i] = expf(x[i] - largest);
    for (i = 0; i < n; i++)
        y[i] /= sum;
}

//// shares
/* max(x, least) divided by its sum; with shift, a row without any x above least is moved to the sum 1 first. */
static void shares(const float *x, int n, float least, int shift, float *y)
{
    float largest = x[0], mean = 0.0f, sum = 0.0f, moved = 0.0f;
    int i;
    for (i = 1; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (i = 0; i < n; i++)
        mean += x[i] / (float)n;
    if (shift && largest <= least)
        moved = 1.0f / (float)n - mean;
    largest += moved;
    largest = shift && largest > 1.0f ? largest : 1.0f;
    for (i = 0; i < n; i++) {
        float value = x[i] + moved;
        sum += y[i] = (value > least ? value : least) / largest;
    }
    for (i = 0; i < n; i++)
        y[i] /= sum;
}

//// weighted
/* y = w * x, added to y unless this is the first one. */
static void weighted(const float *x, int n, float w, int first, float *y)
{
    int i;
    for (i = 0; i < n; i++)
        y[i] = w * x[i] + (first ? 0.0f : y[i]);
}

//// standardise_series
/* Mean 0 and standard deviation 1 of each feature over the steps. */
static void standardise_series_REAL(const REAL *x, int steps, int features, double least, float *y)
{
    int t, f;
    for (f = 0; f < features; f++) {
        double first = x[f], shift = 0.0, squares = 0.0, deviation;
        for (t = 0; t < steps; t++)
            shift += x[(size_t)t * features + f] - first;
        shift /= steps;
        for (t = 0; t < steps; t++) {
            double centred = x[(size_t)t * features + f] - first - shift;
            squares += centred * centred;
        }
        deviation = sqrt(squares / steps);
        for (t = 0; t < steps; t++) {
            double centred = x[(size_t)t * features + f] - first - shift;
            y[(size_t)t * features + f] = deviation > least * fabs(first + shift) ? (float)(centred / deviation) : 0.0f;
        }
    }
}

//// differences
/* Differences to the step before, times scaling, or, if it is 0, divided by their root mean square. */
static void differences(const float *x, int steps, int features, double scaling, float *y)
{
    int t, f;
    for (f = 0; f < features; f++) {
        double factor = scaling, squares = 0.0;
        if (scaling == 0.0) {
            for (t = 1; t < steps; t++) {
                double step = (double)x[(size_t)t * features + f] - x[(size_t)(t - 1) * features + f];
                squares += step * step;
            }
            factor = squares > 0.0 ? 1.0 / sqrt(squares / (steps - 1)) : 0.0;
        }
        for (t = steps - 1; t > 0; t--) {
            double step = (double)x[(size_t)t * features + f] - x[(size_t)(t - 1) * features + f];
            y[(size_t)t * features + f] = (float)(step * factor);
        }
        y[f] = 0.0f;
    }
}

//// reverse
static void reverse(const float *x, int steps, int features, float *y)
{
    int t, f;
    for (t = steps - 1; t >= 0; t--)
        for (f = 0; f < features; f++)
            *y++ = x[(size_t)t * features + f];
}

//// delay
/* The values of a step and of those before it, 0 before the first step. */
static void delay(const float *x, int steps, int features, int window, float *y)
{
    int t, k, f;
    for (t = 0; t < steps; t++)
        for (k = 0; k < window; k++)
            for (f = 0; f < features; f++)
                *y++ = t >= k ? x[(size_t)(t - k) * features + f] : 0.0f;
}

//// activate
/* The value of an activation: 0 identity, 1 tanh, 2 sigmoid, 3 relu. */
static float activate(float x, int kind)
{
    switch (kind) {
    case 1:
        return tanhf(x);
    case 2:
        return 1.0f / (1.0f + expf(-x));
    case 3:
        return x > 0.0f ? x : 0.0f;
    default:
        return x;
    }
}

//// reservoir: sparse_dot, activate
/* The states of each step. At first s holds W_in x + b. The entries of row i of C are start[i] .. start[i + 1] - 1. */
static void reservoir_WEIGHT(float *s, int steps, int nodes, const WEIGHT *w, const column *columns, const int *start,
                             const float *scale, const float *leak, int leaks, int kind)
{
    int t, i;
    for (t = 0; t < steps; t++, s += nodes)
        for (i = 0; i < nodes; i++) {
            float rate = leak[leaks > 1 ? i : 0], driven = s[i];
            if (t)
                driven += sparse_dot_WEIGHT(w + start[i], columns + start[i], s - nodes, start[i + 1] - start[i]) *
                          (scale ? scale[i] : 1.0f);
            s[i] = rate * activate(driven, kind) + (t ? (1.0f - rate) * s[i - nodes] : 0.0f);
        }
}

//// dense_reservoir: dot, activate
/* As reservoir, for a matrix C with few zeros. */
static void dense_reservoir_WEIGHT(float *s, int steps, int nodes, const WEIGHT *w, const float *scale,
                                   const float *leak, int leaks, int kind)
{
    int t, i;
    for (t = 0; t < steps; t++, s += nodes)
        for (i = 0; i < nodes; i++) {
            float rate = leak[leaks > 1 ? i : 0], driven = s[i];
            if (t)
                driven += dot_WEIGHT(w + (size_t)i * nodes, s - nodes, nodes) * (scale ? scale[i] : 1.0f);
            s[i] = rate * activate(driven, kind) + (t ? (1.0f - rate) * s[i - nodes] : 0.0f);
        }
}

//// leaky: activate
/* The states of each step of nodes that are not connected. At first s holds what drives them. */
static void leaky(float *s, int steps, int nodes, const float *leak, int leaks, int kind)
{
    int t, i;
    for (t = 0; t < steps; t++, s += nodes)
        for (i = 0; i < nodes; i++) {
            float rate = leak[leaks > 1 ? i : 0];
            s[i] = rate * activate(s[i], kind) + (t ? (1.0f - rate) * s[i - nodes] : 0.0f);
        }
}

//// oscillators
/* [Re, Im] of damped oscillators at each step, from what drives them, shape (steps, units). */
static void oscillators(const float *driven, int steps, int units, const float *along, const float *across, float *y)
{
    int t, j;
    for (t = 0; t < steps; t++, driven += units, y += 2 * units)
        for (j = 0; j < units; j++) {
            float real = t ? y[j - 2 * units] : 0.0f, imaginary = t ? y[j - units] : 0.0f;
            y[j] = along[j] * real - across[j] * imaginary + driven[j];
            y[units + j] = along[j] * imaginary + across[j] * real;
        }
}

//// pick
/* The values at these steps, negative ones counted from the end. */
static void pick(const float *x, int steps, int features, const int *chosen, int count, float *y)
{
    int k, f;
    for (k = 0; k < count; k++) {
        int t = chosen[k] < 0 ? chosen[k] + steps : chosen[k];
        for (f = 0; f < features; f++)
            *y++ = x[(size_t)t * features + f];
    }
}

//// spaced
/* The values at equally spaced steps after the warm-up, the last one among them. */
static void spaced(const float *x, int steps, int features, int warm_up, int count, float *y)
{
    int k, f;
    for (k = 0; k < count; k++) {
        int t = warm_up + (k + 1) * (steps - warm_up) / count - 1;
        for (f = 0; f < features; f++)
            *y++ = x[(size_t)t * features + f];
    }
}

//// mean
/* The mean over the steps first .. last - 1. */
static void mean(const float *x, int features, int first, int last, float *y)
{
    int t, f;
    for (f = 0; f < features; f++) {
        double sum = 0.0;
        for (t = first; t < last; t++)
            sum += x[(size_t)t * features + f];
        y[f] = (float)(sum / (last - first));
    }
}

//// deviation
/* The standard deviation of the population over the steps first .. last - 1. */
static void deviation(const float *x, int features, int first, int last, float *y)
{
    int t, f;
    for (f = 0; f < features; f++) {
        double sum = 0.0, squares = 0.0;
        for (t = first; t < last; t++)
            sum += x[(size_t)t * features + f];
        sum /= last - first;
        for (t = first; t < last; t++)
            squares += (x[(size_t)t * features + f] - sum) * (x[(size_t)t * features + f] - sum);
        y[f] = (float)sqrt(squares / (last - first));
    }
}

//// maximum
/* The largest value over the steps first .. last - 1. */
static void maximum(const float *x, int features, int first, int last, float *y)
{
    int t, f;
    for (f = 0; f < features; f++) {
        y[f] = x[(size_t)first * features + f];
        for (t = first; t < last; t++)
            y[f] = x[(size_t)t * features + f] > y[f] ? x[(size_t)t * features + f] : y[f];
    }
}

//// positive
/* The share of the steps first .. last - 1 with a value above 0. */
static void positive(const float *x, int features, int first, int last, float *y)
{
    int t, f;
    for (f = 0; f < features; f++) {
        int count = 0;
        for (t = first; t < last; t++)
            count += x[(size_t)t * features + f] > 0.0f;
        y[f] = (float)count / (float)(last - first);
    }
}

//// segments: mean
/* Means over equal parts of the steps after the warm-up; an empty part is the step at its start. */
static void segments(const float *x, int steps, int features, int warm_up, int count, float *y)
{
    int k;
    for (k = 0; k < count; k++) {
        int first = k * (steps - warm_up) / count, last = (k + 1) * (steps - warm_up) / count;
        last = last > first ? last : first + 1;
        mean(x, features, warm_up + first, warm_up + last, y + (size_t)k * features);
    }
}

//// all_steps
/* The last `count` steps, zeros first if there are fewer. */
static void all_steps(const float *x, int steps, int features, int count, float *y)
{
    int t, f;
    for (t = steps - count; t < steps; t++)
        for (f = 0; f < features; f++)
            *y++ = t < 0 ? 0.0f : x[(size_t)t * features + f];
}

//// kernels
/* The features of MiniRocket for one row of biases: the channels of pair k are list[start[k]] .. list[start[k + 1]]. */
static void kernels(const float *x, int steps, int features, int dilation, int inner, const int *list,
                    const int *start, const float *biases, float *y)
{
    int left = inner && steps > 8 * dilation ? 4 * dilation : 0, kernel = 0, pair = 0, p, q, r, t, j, c;
    for (p = 0; p < 7; p++)
        for (q = p + 1; q < 8; q++, kernel += 9 - q, pair++) {
            int count[9] = {0};
            for (t = left; t < steps - left; t++) {
                float thrice[9] = {0}, total = 0.0f, both;
                for (c = start[pair]; c < start[pair + 1]; c++) {
                    float nine = 0.0f;
                    for (j = 0; j < 9; j++) {
                        int at = t + (j - 4) * dilation;
                        float value = at < 0 || at >= steps ? 0.0f : x[(size_t)at * features + list[c]];
                        thrice[j] += 3.0f * value;
                        nine += value;
                    }
                    total += nine;
                }
                both = (thrice[p] - total) + thrice[q];
                for (r = q + 1; r < 9; r++)
                    count[r] += both + thrice[r] > biases[kernel + r - q - 1];
            }
            for (r = q + 1; r < 9; r++)
                y[kernel + r - q - 1] = (float)count[r] / (float)(steps - 2 * left);
        }
}
