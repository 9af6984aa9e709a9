"""Functions that see or change the weights and gradients inside of a compiled training step of `fit`."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import keras
from keras import ops

from kseq import backend
from kseq.backend import Tensor

DECAYS = "weight_decay", "adam_weight_decay"  # attributes of optimizers; the latter is Muon's


class GradientHook:
    """What a callback does in each training step. Subclasses override one or more of these methods.

    All but `read` are traced into the training step, and may assign `variable`.

    Attributes:
        variable: A variable that the training step carries, or None.
    """

    variable: keras.Variable | None = None

    def read(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Return the batches of the next step."""
        return batches

    def weights(self, values: list[Tensor], optimizer: Any) -> list[Tensor]:
        """Return the values of the trainable weights by which a step computes its gradient.

        The update is that of the weights as they were.
        """
        return values

    def before_clipping(self, gradients: list[Tensor], variables: list[keras.Variable], optimizer: Any) -> list[Tensor]:
        """Return the gradients of the variables, unscaled and accumulated, before the optimizer clips them."""
        return gradients

    def after_clipping(self, gradients: list[Tensor], optimizer: Any) -> list[Tensor]:
        """Return the gradients for the update."""
        return gradients

    def learning_rate(self, learning_rate: Any) -> Any:
        """Return the learning rate of this update."""
        return learning_rate

    def factor(self, variable: keras.Variable) -> float:
        """Return what the learning rate is multiplied by for a weight."""
        return 1.0


class HookedTraining:
    """The training function of a model in a `fit` with hooks.

    The optimizer's methods are replaced only while the training function runs, so they are its own again between two
    steps, and after a step that raises an error. The training function itself is given up when the next training
    begins: Keras then calls the model's `make_train_function`, which is replaced until then. Keras tells no callback
    of a `fit` that has failed.

    Args:
        model: A compiled and built model.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        self.hooks: list[GradientHook] = []
        self._variables: list[keras.Variable] = []  # of the update that is being traced
        self._decays: dict[str, float] = {}  # of the optimizer
        self._of_thread = threading.local()  # the weights before a step, in each replica

    def add(self, hook: GradientHook) -> None:
        """Call a hook in the steps that follow."""
        self.hooks.append(hook)
        self._make()

    def remove(self, hook: GradientHook) -> None:
        """Do not call a hook any more."""
        self.hooks = [each for each in self.hooks if each is not hook]
        if self.hooks:
            self._make()
        else:
            self._give_up()

    def make_train_function(self, force: bool = False) -> None:
        """Make the training function anew: without hooks at the beginning of a training, which does not force it."""
        if force:
            self._make()
            return
        self._give_up()
        self.model.make_train_function()

    def _give_up(self) -> None:
        self.hooks = []
        vars(self.model).pop("make_train_function", None)
        self.model.train_function = None

    def _make(self) -> None:
        own, model = vars(self.model), self.model
        before, step = own.get("train_step"), model.train_step
        own["train_step"] = partial(self._step, step)
        try:
            with self._installed():
                type(model).make_train_function(model, force=True)
        finally:
            del own["train_step"]
            if before is not None:
                own["train_step"] = before
        model.train_function = partial(self._run, model.train_function)
        own["make_train_function"] = self.make_train_function

    def _run(self, function: Callable, *arguments: Any) -> Any:
        """Run Keras's training function, which takes an iterator last, and on JAX the values of variables first."""
        *state, batches = arguments
        for hook in self.hooks:
            batches = hook.read(batches)
        with self._installed():
            if not state:
                return function(batches)
            carried, ((weights, others, of_optimizer, metrics),) = self._carried(), state
            values = [*of_optimizer, *(each.value for each in carried)]
            logs, (weights, others, values, metrics) = function((weights, others, values, metrics), batches)
        kept = len(values) - len(carried)
        for variable, value in zip(carried, values[kept:], strict=True):
            variable.assign(value)
        return logs, (weights, others, values[:kept], metrics)

    def _carried(self) -> list[keras.Variable]:
        """Return the hooks' variables that the training function takes and returns as values."""
        return [hook.variable for hook in self.hooks if hook.variable is not None] if _stateless() else []

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        """Call the hooks from the optimizer's methods, inside a `with` statement."""
        outer, inner = self.model.optimizer, updating_optimizer(self.model)
        own, carried = inner._variables, self._carried()
        # Not while an update is traced, where another replica may have set them.
        self._decays = {name: vars(inner)[name] for name in DECAYS if vars(inner).get(name) is not None}
        places: list[tuple[Any, str, Callable]] = [
            (inner, "_backend_apply_gradients", self._apply),
            (inner, "_clip_gradients", self._clip),
            (inner, "_apply_weight_decay", self._decay),
            (inner, "_backend_update_step", self._update),
            (inner, "update_step", self._update_one),
            (outer, "stateless_apply", self._restore_values) if _stateless() else (outer, "apply", self._restore),
        ]
        of_instance = [vars(optimizer).get(name) for optimizer, name, _ in places]  # under several replicas
        for optimizer, name, function in places:
            vars(optimizer)[name] = partial(function, getattr(optimizer, name))
        own.extend(carried)
        try:
            yield
        finally:
            if carried:
                own[:] = [each for each in own if all(each is not one for one in carried)]
            for (optimizer, name, _), before in zip(places, of_instance, strict=True):
                del vars(optimizer)[name]
                if before is not None:
                    vars(optimizer)[name] = before

    def _step(self, original: Callable, *arguments: Any) -> Any:
        """Run the model's training step with the weights that the hooks give it."""
        if all(type(hook).weights is GradientHook.weights for hook in self.hooks):
            return original(*arguments)
        optimizer = updating_optimizer(self.model)
        if not _stateless():
            variables = self.model.trainable_variables
            before = [ops.copy(each.value) for each in variables]
            for variable, value in zip(variables, self._weights(before, optimizer), strict=True):
                variable.assign(value)
            self._of_thread.before = list(zip(variables, before, strict=True))
            return original(*arguments)
        (before, *others), data = arguments
        outer = self.model.optimizer
        with keras.StatelessScope(state_mapping=list(zip(outer.variables, others[1], strict=True))):
            values = self._weights(before, optimizer)
        self._of_thread.before = before
        return original((values, *others), data)

    def _weights(self, values: list[Tensor], optimizer: Any) -> list[Tensor]:
        for hook in self.hooks:
            values = hook.weights(values, optimizer)
        return values

    def _restore(self, original: Callable, gradients: Any, trainable_variables: Any = None) -> None:
        for variable, value in self._taken() or ():
            variable.assign(value)
        original(gradients, trainable_variables)

    def _restore_values(self, original: Callable, optimizer_variables: list, gradients: list, values: list) -> Any:
        return original(optimizer_variables, gradients, self._taken() or values)

    def _taken(self) -> list[Any] | None:
        """Return what the step has kept of the weights before it, once; None if it has changed none."""
        before, self._of_thread.before = getattr(self._of_thread, "before", None), None
        return before

    def _apply(self, original: Callable, gradients: list, variables: list) -> None:
        self._variables = list(variables)
        original(gradients, variables)

    def _clip(self, original: Callable, gradients: list) -> list:
        gradients, optimizer = list(gradients), updating_optimizer(self.model)
        for hook in self.hooks:
            gradients = hook.before_clipping(gradients, self._variables, optimizer)
        gradients = original(gradients)
        for hook in self.hooks:
            gradients = hook.after_clipping(gradients, optimizer)
        return gradients

    def _decay(self, original: Callable, variables: list) -> None:
        """Decay the weights, each by its own learning rate."""
        optimizer, decays = updating_optimizer(self.model), self._decays
        own = vars(optimizer)
        by_factor: dict[float, list] = {}
        for variable in variables:
            by_factor.setdefault(self._factor(optimizer, variable), []).append(variable)
        try:
            for factor, some in by_factor.items():
                own.update({name: decay * factor for name, decay in decays.items()})
                original(some)
        finally:
            own.update(decays)

    def _update(self, original: Callable, gradients: list, variables: list, learning_rate: Any) -> None:
        for hook in self.hooks:
            learning_rate = hook.learning_rate(learning_rate)
        original(gradients, variables, learning_rate)

    def _update_one(self, original: Callable, gradient: Any, variable: Any, learning_rate: Any) -> None:
        factor = self._factor(updating_optimizer(self.model), variable)
        original(gradient, variable, learning_rate if factor == 1.0 else learning_rate * factor)

    def _factor(self, optimizer: Any, variable: Any) -> float:
        factor, weight = 1.0, optimizer._trainable_variables[optimizer._get_variable_index(variable)]
        for hook in self.hooks:
            factor *= hook.factor(weight)
        return factor


def add_hook(model: keras.Model, hook: GradientHook) -> None:
    """Call a hook in the training steps of a compiled and built model, which are compiled anew.

    Raises:
        ValueError: If the model has a `MultiOptimizer`, which has no gradient as a whole.
    """
    updating_optimizer(model)
    (_hooked(model) or HookedTraining(model)).add(hook)


def remove_hook(model: keras.Model, hook: GradientHook) -> None:
    """Call a hook no more; the next `fit` compiles the training step anew."""
    if (hooked := _hooked(model)) is not None:
        hooked.remove(hook)


def updating_optimizer(model: keras.Model) -> Any:
    """Return the optimizer that updates the weights: of a `LossScaleOptimizer` the inner one.

    Raises:
        ValueError: If there are several, in a `MultiOptimizer`.
    """
    optimizer = model.optimizer
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    if isinstance(optimizer, keras.optimizers.MultiOptimizer):
        raise ValueError(
            "The model has a MultiOptimizer, whose optimizers each have a gradient of their own. Compile it with one "
            "optimizer; kseq.training.LearningRates gives parts of a model learning rates of their own."
        )
    return optimizer


def _hooked(model: keras.Model) -> HookedTraining | None:
    found = getattr(vars(model).get("make_train_function"), "__self__", None)
    return found if isinstance(found, HookedTraining) else None


def _stateless() -> bool:
    return backend.trains_statelessly()
