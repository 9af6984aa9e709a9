"""Functions that see or change the gradients inside of a compiled training step, without an optimizer of their own."""

from collections.abc import Callable
from typing import Any

import keras

from kseq import backend
from kseq.backend import Tensor

ATTRIBUTE = "_kseq_gradient_hooks"


class GradientHook:
    """What a callback does in each update of the weights. Subclasses override one or more of these methods.

    They are traced into the training step, and may assign `variable`.

    Attributes:
        variable: A variable that the training step carries, or None.
    """

    variable: keras.Variable | None = None

    def before_clipping(self, gradients: list[Tensor], variables: list[keras.Variable], optimizer: Any) -> list[Tensor]:
        """Return the gradients of the variables, unscaled and accumulated, before the optimizer clips them."""
        return gradients

    def after_clipping(self, gradients: list[Tensor], optimizer: Any) -> list[Tensor]:
        """Return the gradients for the update."""
        return gradients

    def learning_rate(self, learning_rate: Any) -> Any:
        """Return the learning rate of this update."""
        return learning_rate


class GradientHooks:
    """The hooks of one optimizer, while it is used by `fit`.

    They are called from the optimizer's methods that clip the gradients and update the weights, which are replaced on
    the instance alone. What the optimizer saves and loads stays as it was.
    """

    def __init__(self, optimizer: Any):
        self.optimizer = optimizer
        self.hooks: list[GradientHook] = []
        self._variables: list[keras.Variable] = []  # of the update that is being traced
        self._replaced = {
            "_backend_apply_gradients": self._apply,
            "_clip_gradients": self._clip,
            "_backend_update_step": self._update,
            "save_own_variables": self._without_variables,
            "load_own_variables": self._without_variables,
        }

    def add(self, hook: GradientHook) -> None:
        """Call a hook in every update that is traced from now on."""
        if any(each is hook for each in self.hooks):  # a `fit` before ended in an error
            return
        if not self.hooks:
            for name, function in self._replaced.items():
                self._replace(name, function)
        self.hooks.append(hook)
        if hook.variable is not None and backend.trains_statelessly():
            self.optimizer._variables.append(hook.variable)

    def remove(self, hook: GradientHook) -> None:
        """Do not call a hook any more."""
        if all(each is not hook for each in self.hooks):
            return
        self.hooks = [each for each in self.hooks if each is not hook]
        if backend.trains_statelessly():
            own = self.optimizer._variables
            own[:] = [each for each in own if each is not hook.variable]
        if not self.hooks:
            for name in (*self._replaced, ATTRIBUTE):
                delattr(self.optimizer, name)

    def _replace(self, name: str, function: Callable) -> None:
        """Replace a method of the instance by `function(the class's method, *arguments)`."""
        original = getattr(self.optimizer, name)

        def replaced(*arguments: Any, **options: Any) -> Any:
            return function(original, *arguments, **options)

        setattr(self.optimizer, name, replaced)

    def _apply(self, original: Callable, gradients: list, variables: list) -> None:
        self._variables = list(variables)
        original(gradients, variables)

    def _clip(self, original: Callable, gradients: list) -> list:
        gradients = list(gradients)
        for hook in self.hooks:
            gradients = hook.before_clipping(gradients, self._variables, self.optimizer)
        gradients = original(gradients)
        for hook in self.hooks:
            gradients = hook.after_clipping(gradients, self.optimizer)
        return gradients

    def _update(self, original: Callable, gradients: list, variables: list, learning_rate: Any) -> None:
        for hook in self.hooks:
            learning_rate = hook.learning_rate(learning_rate)
        original(gradients, variables, learning_rate)

    def _without_variables(self, original: Callable, store: Any) -> None:
        """Save or load the optimizer's variables without those of the hooks."""
        own = self.optimizer._variables
        every = list(own)
        own[:] = [each for each in every if all(each is not hook.variable for hook in self.hooks)]
        try:
            original(store)
        finally:
            own[:] = every


def add_hook(model: keras.Model, hook: GradientHook) -> None:
    """Call a hook in the training steps of a compiled and built model, which are compiled anew."""
    optimizer = updating_optimizer(model)
    hooks = getattr(optimizer, ATTRIBUTE, None)
    if hooks is None:
        hooks = GradientHooks(optimizer)
        setattr(optimizer, ATTRIBUTE, hooks)
    hooks.add(hook)
    model.make_train_function(force=True)


def remove_hook(model: keras.Model, hook: GradientHook) -> None:
    """Call a hook no more; the next `fit` compiles the training step anew."""
    hooks = getattr(updating_optimizer(model), ATTRIBUTE, None)
    if hooks is not None:
        hooks.remove(hook)
    model.train_function = None


def updating_optimizer(model: keras.Model) -> Any:
    """Return the optimizer that updates the weights: of a `LossScaleOptimizer` the inner one."""
    optimizer = model.optimizer
    while hasattr(optimizer, "inner_optimizer"):
        optimizer = optimizer.inner_optimizer
    return optimizer
