"""Backpropagation written out as the textbooks do: of the simple and the bidirectional RNN, and of a convolution.

The simple RNN, with h_{-1} given, reads x_0 ... x_{T-1}:

    a_t = x_t W_c + h_{t-1} W_r + b
    h_t = tanh(a_t)

Let L be any loss, and dL/dh_t the part of its derivative that does not go through later steps (0 if the loss looks at
the last step alone). From the last step to the first, with dh the derivative that arrives from step t + 1, 0 at first:

    dh   = dh + dL/dh_t                 the loss at this step, and all later ones
    da   = dh * (1 - h_t ** 2)          tanh' = 1 - tanh ** 2
    dW_c = dW_c + x_t^T da              every step used the same weights, so their gradients add up
    dW_r = dW_r + h_{t-1}^T da
    db   = db + da
    dx_t = da W_c^T
    dh   = da W_r^T                     goes on to step t - 1; after step 0 it is dh_{-1}

The bidirectional RNN runs a second RNN from the last step to the first, and its output at t is both hidden states side
by side. So the derivative of the output is split, and each half goes through the backpropagation of its own RNN, that
of the second one with time reversed. The inputs, which both have read, get the sum.

The convolution over time with kernel W (places, features, filters), bias b and stride s, on inputs with zeros around:

    y_t  = f(sum_k x_{s t + k - p} W_k + b),   p = (places - 1) // 2
    da_t = dL/dy_t * f'(a_t);   dW_k = sum_t x_{s t + k - p}^T da_t;   db = sum_t da_t;   dx_{s t + k - p} += da_t W_k^T

All functions take one row without a batch.
"""

import numpy as np


def simple_rnn(x, kernel, recurrent_kernel, bias, before):
    """Return the hidden states `(time, units)` of inputs `(time, features)`."""
    hidden, h = [], before
    for x_t in x:
        h = np.tanh(x_t @ kernel + h @ recurrent_kernel + bias)
        hidden.append(h)
    return np.array(hidden)


def simple_rnn_gradients(x, kernel, recurrent_kernel, bias, before, d_hidden):
    """Return `(dx, dW_c, dW_r, db, dh_{-1})`, with `d_hidden` the derivatives dL/dh_t `(time, units)`."""
    hidden = simple_rnn(x, kernel, recurrent_kernel, bias, before)
    dx, d_kernel, d_recurrent, d_bias = (np.zeros_like(each) for each in (x, kernel, recurrent_kernel, bias))
    dh = np.zeros_like(before)
    for t in reversed(range(len(x))):
        h_before = hidden[t - 1] if t else before
        dh = dh + d_hidden[t]
        da = dh * (1.0 - hidden[t] ** 2)
        for unit in range(len(da)):
            for feature in range(x.shape[1]):
                d_kernel[feature, unit] += x[t, feature] * da[unit]
                dx[t, feature] += da[unit] * kernel[feature, unit]
            for other in range(len(da)):
                d_recurrent[other, unit] += h_before[other] * da[unit]
            d_bias[unit] += da[unit]
        dh = np.array(
            [sum(da[unit] * recurrent_kernel[other, unit] for unit in range(len(da))) for other in range(len(da))]
        )
    return dx, d_kernel, d_recurrent, d_bias, dh


def bidirectional(x, forward, backward, before, after):
    """Return the outputs `(time, 2 units)`; `forward` and `backward` are `(W_c, W_r, b)` of each direction."""
    ahead = simple_rnn(x, *forward, before)
    behind = simple_rnn(x[::-1], *backward, after)[::-1]
    return np.concatenate([ahead, behind], axis=1)


def bidirectional_gradients(x, forward, backward, before, after, d_outputs):
    """Return `(dx, (dW_c, dW_r, db) of each direction, dh before the first step, dh after the last step)`."""
    units = len(before)
    dx_ahead, *d_forward, d_before = simple_rnn_gradients(x, *forward, before, d_outputs[:, :units])
    dx_behind, *d_backward, d_after = simple_rnn_gradients(x[::-1], *backward, after, d_outputs[::-1, units:])
    return dx_ahead + dx_behind[::-1], tuple(d_forward), tuple(d_backward), d_before, d_after


def convolution(x, kernel, bias, stride):
    """Return `max(0, a)` of a convolution over time, `(ceil(time / stride), filters)`, of inputs `(time, features)`."""
    outputs = np.zeros((-(-len(x) // stride), kernel.shape[2]))
    for t in range(len(outputs)):
        for filter_ in range(kernel.shape[2]):
            a = bias[filter_]
            for k in range(len(kernel)):
                place = stride * t + k - (len(kernel) - 1) // 2
                if 0 <= place < len(x):
                    a += sum(x[place, feature] * kernel[k, feature, filter_] for feature in range(x.shape[1]))
            outputs[t, filter_] = max(0.0, a)
    return outputs


def convolution_gradients(x, kernel, bias, stride, d_outputs):
    """Return `(dx, dW, db)` of `convolution`, with `d_outputs` the derivatives dL/dy_t `(time / stride, filters)`."""
    outputs = convolution(x, kernel, bias, stride)
    dx, d_kernel, d_bias = np.zeros_like(x), np.zeros_like(kernel), np.zeros_like(bias)
    for t in range(len(outputs)):
        for filter_ in range(kernel.shape[2]):
            da = d_outputs[t, filter_] if outputs[t, filter_] > 0 else 0.0
            d_bias[filter_] += da
            for k in range(len(kernel)):
                place = stride * t + k - (len(kernel) - 1) // 2
                if 0 <= place < len(x):
                    for feature in range(x.shape[1]):
                        d_kernel[k, feature, filter_] += x[place, feature] * da
                        dx[place, feature] += da * kernel[k, feature, filter_]
    return dx, d_kernel, d_bias
