"""Service of one trained model with three strategies: n-best, permitted outputs only, and seeded samples."""

import numpy as np
import served

import kseq


def permitted_tokens(target, texts):
    """Return the token ids of each distinct text, without begin and end tokens."""
    special = {target.bos_id, target.eos_id, target.pad_id}
    rows = target.tokenize(sorted(set(texts))).to_list()
    return [[token for token in row if token not in special] for row in rows]


def serve_each_strategy(model, folder, texts, permitted, *, source, target, **export):
    """Export `model` with each strategy beside `folder`, serve it, and send `texts` over REST and gRPC.

    `permitted` are the only output texts that the second strategy may answer with. Prints an answer of each. Returns
    whether all answers equal the model's own, all outputs were permitted, and equal seeds gave equal samples.
    """
    allowed = kseq.decoding.constraints.AllowedOutputs(permitted_tokens(target, permitted))
    listed = {text.decode() for text in target.normalize(sorted(set(permitted))).numpy()}
    strategies = {
        "n-best": (kseq.decoding.BeamSearch(beam_width=4, top_paths=4), {}),
        "permitted": (kseq.decoding.BeamSearch(beam_width=4, top_paths=2, constraints=(allowed,)), {}),
        "sampled": (kseq.decoding.Sampling(temperature=5.0, num_samples=3), {"seed": np.arange(len(texts))}),
    }
    right = []
    for name, (strategy, seeds) in strategies.items():
        base = folder.with_name(f"{folder.name}-{name}")
        options = kseq.ExportOptions(seed_input=bool(seeds), warmup=False)
        version = kseq.export_saved_model(
            model, base, strategy=strategy, source=source, target=target, options=options, **export
        )
        asked = {"text": texts, **seeds}
        own = kseq.load_saved_model(version)(**asked)
        with served.serving(base.name, base) as clients:
            answers = [client.predict(base.name, asked) for client in clients for _ in range(2)]
            others = [client.predict(base.name, {**asked, "seed": seeds["seed"] + 1}) for client in clients if seeds]
        right += [served.equal(answer, own) for answer in answers]
        right += [not np.array_equal(other["text"], own["text"]) for other in others]
        if name == "permitted":
            given = {text for row in own["text"] for text in row if text}  # a missing second-best answer is empty
            right.append({*own["text"][:, 0], *given} <= listed)
        best = ", ".join(f"{text} ({score:.2f})" for text, score in zip(own["text"][0], own["scores"][0], strict=True))
        print(f"{name}: {texts[0]!r} -> {best}")
    print(f"With every strategy, REST and gRPC {'equal' if all(right) else 'DIFFER FROM'} the model's own answers.")
    return all(right)
