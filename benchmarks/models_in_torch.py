"""The models of `whole_models.py` in PyTorch.

A model's `forward` takes tensors and returns logits; `loss` takes those and the labels. Rows of unequal lengths are
packed. The weights are PyTorch's own initial ones.
"""
# ruff: noqa: D101, D102  (the models are described in models_in_keras.py)

import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, ctc_loss, mse_loss
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def packed(layer, values, lengths):
    """Run a recurrent layer over rows of the given lengths; return padded outputs and the final states."""
    rows = pack_padded_sequence(values, lengths, batch_first=True, enforce_sorted=False)
    outputs, states = layer(rows)
    return pad_packed_sequence(outputs, batch_first=True, total_length=values.shape[1])[0], states


def loss_of_ctc(logits, labels):
    scores = torch.log_softmax(logits, dim=-1).transpose(0, 1)
    frames = torch.full((logits.shape[0],), logits.shape[1], dtype=torch.long)
    counts = torch.full((labels.shape[0],), labels.shape[1], dtype=torch.long)
    losses = ctc_loss(scores, labels.long(), frames, counts, reduction="none")
    return losses.mean()


def loss_of_tokens(logits, labels):
    return cross_entropy(logits.flatten(0, 1), labels.flatten().long(), ignore_index=-1)


class Captcha(nn.Module):
    loss = staticmethod(loss_of_ctc)

    def __init__(self):
        super().__init__()
        both = {"batch_first": True, "bidirectional": True}
        self.first, self.second = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        self.pool, self.dense = nn.MaxPool2d(2), nn.Linear(12 * 64, 64)
        self.dropout, self.input_dropout = nn.Dropout(0.2), nn.Dropout(0.25)
        self.lower, self.upper = nn.LSTM(64, 128, **both), nn.LSTM(256, 64, **both)
        self.to_logits = nn.Linear(128, 21)

    def forward(self, images):
        values = self.pool(self.first(images.permute(0, 3, 1, 2)).relu())
        values = self.pool(self.second(values).relu())  # (batch, 64, 50, 12)
        values = self.dropout(self.dense(values.permute(0, 2, 3, 1).flatten(2)).relu())
        values = self.lower(self.input_dropout(values))[0]
        return self.to_logits(self.upper(self.input_dropout(values))[0])


class Tagger(nn.Module):
    loss = staticmethod(loss_of_tokens)

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(10000, 100)
        self.recurrent = nn.LSTM(100, 128, batch_first=True, bidirectional=True)
        self.to_logits = nn.Linear(256, 17)

    def forward(self, tokens, lengths):
        return self.to_logits(packed(self.recurrent, self.embedding(tokens), lengths)[0])


class Sentiment(nn.Module):
    loss = staticmethod(binary_cross_entropy_with_logits)

    def __init__(self):
        super().__init__()
        self.embedding, self.recurrent = nn.Embedding(20000, 128), nn.GRU(128, 128, batch_first=True)
        self.to_logits = nn.Linear(128, 1)

    def forward(self, tokens, lengths):
        return self.to_logits(packed(self.recurrent, self.embedding(tokens), lengths)[1][0])


class Translator(nn.Module):
    loss = staticmethod(loss_of_tokens)

    def __init__(self, size=8000, units=256):
        super().__init__()
        self.source, self.target = nn.Embedding(size, units), nn.Embedding(size, units)
        self.encoder = nn.LSTM(units, units, batch_first=True, bidirectional=True)
        self.decoder = nn.LSTM(units, units, batch_first=True)
        self.bridge, self.combine = nn.Linear(4 * units, 2 * units), nn.Linear(3 * units, units)
        self.query, self.keys = nn.Linear(units, units), nn.Linear(2 * units, units, bias=False)
        self.score, self.to_logits = nn.Linear(units, 1, bias=False), nn.Linear(units, size)

    def forward(self, source, lengths, target):
        values, (hidden, cell) = packed(self.encoder, self.source(source), lengths)
        states = torch.cat([hidden[0], cell[0], hidden[1], cell[1]], dim=-1)
        h, c = self.bridge(states).tanh().chunk(2, dim=-1)
        outputs, _ = self.decoder(self.target(target), (h[None].contiguous(), c[None].contiguous()))
        compared = (self.query(outputs)[:, :, None] + self.keys(values)[:, None]).tanh()
        scores = self.score(compared)[..., 0]  # (batch, target steps, source steps)
        padding = torch.arange(values.shape[1]) >= lengths[:, None]
        weights = scores.masked_fill(padding[:, None], -torch.inf).softmax(dim=-1)
        return self.to_logits(self.combine(torch.cat([outputs, weights @ values], dim=-1)).tanh())


class Characters(nn.Module):
    loss = staticmethod(loss_of_tokens)

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(100, 64)
        self.recurrent, self.to_logits = nn.LSTM(64, 256, num_layers=2, batch_first=True), nn.Linear(256, 100)
        self.states = None

    def forward(self, text):
        outputs, states = self.recurrent(self.embedding(text), self.states)
        self.states = tuple(state.detach() for state in states)
        return self.to_logits(outputs)


class Forecaster(nn.Module):
    loss = staticmethod(mse_loss)

    def __init__(self):
        super().__init__()
        self.encoder, self.decoder = nn.LSTM(8, 128, batch_first=True), nn.LSTM(128, 128, batch_first=True)
        self.to_values = nn.Linear(128, 1)

    def forward(self, series):
        _, states = self.encoder(series)
        repeated = states[0][0][:, None].expand(-1, 24, -1)
        return self.to_values(self.decoder(repeated, states)[0])


class Speech(nn.Module):
    loss = staticmethod(loss_of_ctc)

    def __init__(self):
        super().__init__()
        self.first = nn.Conv1d(80, 128, 3, padding=1)
        self.second = nn.Conv1d(128, 128, 3, stride=2, padding=1)
        self.recurrent = nn.LSTM(128, 256, num_layers=3, batch_first=True, bidirectional=True)
        self.to_logits = nn.Linear(512, 30)

    def forward(self, features):
        values = self.second(self.first(features.transpose(1, 2)).relu()).relu()
        return self.to_logits(self.recurrent(values.transpose(1, 2))[0])


MODELS = {
    "captcha": Captcha,
    "tagger": Tagger,
    "sentiment": Sentiment,
    "translator": Translator,
    "characters": Characters,
    "forecaster": Forecaster,
    "speech": Speech,
}


def inputs_of(name, built):
    """Return the model's inputs and labels as tensors, from the batch of the model of Keras's parts."""
    x, y = built.x, built.y
    if name in ("tagger", "sentiment"):
        x = (x, (x > 0).sum(axis=1))
    elif name == "translator":
        x = (x[0], (x[0] > 0).sum(axis=1), x[1])
    else:
        x = (x,)
    if built.real is not None:
        y = y.copy()
        y[~built.real] = -1  # `ignore_index` of the loss
    return [torch.from_numpy(part) for part in x], torch.from_numpy(y)


def functions_of(name, built):
    """Return functions without arguments: a train step, and a prediction, each waiting for its result."""
    model, (x, y) = MODELS[name](), inputs_of(name, built)
    optimizer = torch.optim.Adam(model.parameters())

    def train():
        model.train()
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(model(*x), y)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    def predict():
        model.eval()
        with torch.no_grad():
            return model(*x).numpy()

    return {"train": train, "predict": predict}
