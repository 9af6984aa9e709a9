"""Models and files that the cases need, for this repository's server or another one.

usage: python -m tests.kseq_serving.conformance.setup FOLDER

This writes them into FOLDER, and prints the flags of two servers, one for each kind of case.
"""

import sys
from pathlib import Path

from tests.kseq_serving import toy_models

MODELS = {"toy": "", "examples": "", "shapes": "", "versioned": "model_version_policy { all {} }"}
LABELS = 'version_labels { key: "stable" value: 1 }'
BATCHING = """
max_batch_size { value: 4 }
batch_timeout_micros { value: 400000 }
num_batch_threads { value: 2 }
allowed_batch_sizes: 2
allowed_batch_sizes: 4
pad_variable_length_inputs: true
"""


def make(folder: Path) -> dict[str, list[str]]:
    """Write models and configurations, and return the flags of each kind of server."""
    models = folder / "models"
    toy_models.save_toy(models / "toy" / "1")
    toy_models.save_examples(models / "examples" / "1")
    toy_models.save_shapes(models / "shapes" / "1")
    toy_models.save_version(models / "versioned" / "1", 1)
    toy_models.save_version(models / "versioned" / "2", 2)
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{models / name}" model_platform: "tensorflow" {more} '
        f"{LABELS if name == 'versioned' else ''} }}\n"
        for name, more in MODELS.items()
    )
    config, batching = folder / "models.config", folder / "batching.config"
    config.write_text(f"model_config_list {{\n{entries}}}\n")
    batching.write_text(BATCHING)
    plain = [f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models=true"]
    return {"plain": plain, "batching": [*plain, "--enable_batching=true", f"--batching_parameters_file={batching}"]}


if __name__ == "__main__":
    for kind, flags in make(Path(sys.argv[1]).absolute()).items():
        print(f"{kind}: {' '.join(flags)}")
