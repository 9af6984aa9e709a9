"""The models of `examples/g2p.py --model NAME`: the same encoder and cell, with other attentions or decoders."""

import kseq

ATTENTIONS = {
    "additive": lambda units: kseq.attention.AdditiveAttention(units),
    "multi_head": lambda units: kseq.attention.MultiHeadAttention(num_heads=4, key_dim=units // 4),
    "monotonic": lambda units: kseq.attention.MonotonicAttention(units, noise=0.5),
    "location": lambda units: kseq.attention.LocationSensitiveAttention(units, filters=16, kernel_size=7),
    "local": lambda units: kseq.attention.LocalAttention(kseq.attention.AdditiveAttention(units), window=4),
}
MODELS = [*ATTENTIONS, "hard", "pointer", "hybrid", "transformer"]


def make_model(name, source, target, units, dropout):
    """Return a model called `name`, one of `MODELS`, for two tokenizers."""
    ids = {"bos_id": target.bos_id, "eos_id": target.eos_id}
    sizes = source.vocabulary_size, target.vocabulary_size
    if name == "transformer":
        options = {"num_layers": 3, "num_heads": 4, "dropout": dropout / 2}
        encoder = kseq.models.TransformerEncoder(sizes[0], units, **options)
        return kseq.models.Seq2Seq(
            encoder, kseq.models.TransformerDecoder(sizes[1], units, max_length=64, **options), **ids
        )
    cell = kseq.cells.GRUCell(units)
    encoder = kseq.models.Encoder(sizes[0], 128, cell, num_layers=2, residual=True, dropout=dropout)
    if name == "hard":
        decoder = kseq.models.HardMonotonicDecoder(sizes[1], 128, cell, dropout=dropout)
        return kseq.models.Seq2Seq(encoder, decoder, **ids)
    if name == "pointer":
        copies = kseq.text.copied_ids(source, target)
        return kseq.models.Seq2Seq(
            encoder, kseq.models.PointerDecoder(sizes[1], 128, cell, dropout=dropout, copies=copies), **ids
        )
    attention = ATTENTIONS["additive" if name == "hybrid" else name](units)
    decoder = kseq.models.Decoder(sizes[1], 128, cell, attention=attention, dropout=dropout)
    # CTC cannot align a pronunciation that is longer than its word, so it helps the encoder in training alone.
    ctc = kseq.training.JointCTC(0.3, decoding_weight=0.0, infeasible="zero") if name == "hybrid" else None
    return kseq.models.Seq2Seq(encoder, decoder, ctc=ctc, **ids)
