"""A recognizer behind the embedded server, asked over REST and over gRPC: the answers are the model's own."""

import keras
import numpy as np
import pytest

import kseq

pytestmark = pytest.mark.tensorflow


def test_both_protocols_answer_as_the_model_does(tmp_path):
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    from tests.kseq_serving.clients import ServerProcess

    keras.utils.set_random_seed(3)
    encoder = kseq.layers.RNN(kseq.cells.GRUCell(4), return_sequences=True)
    model = kseq.models.CTCRecognizer(3, 5, encoder, front_end=kseq.models.FrameStacking(2))
    model.build()
    model.set_weights([3.0 * weight for weight in model.get_weights()])
    strategy = kseq.decoding.CTCBeamSearch(beam_width=3, top_paths=2)
    kseq.export_saved_model(model, tmp_path / "lines", strategy=strategy, buckets=(12,), batch_sizes=(2,), warmup=False)
    features = np.random.default_rng(0).normal(size=(2, 10, 3)).astype("float32")
    lengths = np.array([10, 5], "int32")
    own = model.decode(features, lengths, strategy=strategy)
    assert np.asarray(own.lengths)[:, 0].max() > 1

    server = ServerProcess(tmp_path / "log", "--model_name=lines", f"--model_base_path={tmp_path / 'lines'}")
    try:
        server.wait_ready()
        asked = {"features": features.tolist(), "lengths": lengths.tolist()}
        status, body = server.rest("POST", "/v1/models/lines:predict", {"inputs": asked})
        assert status == 200, body
        request = predict_pb2.PredictRequest()
        request.model_spec.name = "lines"
        for name, value in (("features", features), ("lengths", lengths)):
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        response = {name: tf.make_ndarray(value) for name, value in server.predict(request).outputs.items()}
    finally:
        server.stop()
    width = own.tokens.shape[2]
    for answer in ({name: np.array(value) for name, value in body["outputs"].items()}, response):
        assert set(answer) == {"tokens", "lengths", "scores", "frames"}
        np.testing.assert_array_equal(answer["lengths"], own.lengths)
        np.testing.assert_allclose(answer["scores"], own.scores, rtol=1e-5)
        for name, expected in (("tokens", own.tokens), ("frames", own.frames)):
            np.testing.assert_array_equal(answer[name][:, :, :width], expected)
            assert np.all(answer[name][:, :, width:] == -1)
