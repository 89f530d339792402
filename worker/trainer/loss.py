"""Cross-entropy of the labelled tokens alone, a chunk of logits at a time.

Dimensions: T tokens of a row, D hidden, V vocabulary, N labelled tokens, C tokens of a chunk,
B examples, L longest of them, S sequences.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from app.training.chat import IGNORE_INDEX
from worker.trainer.layers import kernels

CHUNK_TOKENS = 256


def completion_loss(
    hidden_TD: Tensor,
    head_VD: Tensor,
    labels_T: Tensor,
    head_bias_V: Tensor | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
    cap: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy of the completion tokens, a chunk of logits at a time.

    Args:
        hidden_TD: Last hidden states of a packed row; position t predicts the token at t + 1.
        head_VD: Output embedding, frozen, same float type.
        labels_T: Token ids, int64, not shifted; IGNORE_INDEX on prompts and where an example
            begins, so that no example predicts the next one's first token.
        head_bias_V: Bias of the output embedding, where a model has one.
        chunk_tokens: Rows of logits that exist at a time.
        cap: Squeezes logits into (-cap, cap): cap * tanh(logits / cap) (Gemma 2,
            arXiv:2408.00118, section 2).

    Returns:
        The sum in nats (float32 scalar) and the number of tokens in it (int64 scalar).

    Raises:
        ValueError: hidden_TD and labels_T differ in length.
    """
    if hidden_TD.shape[0] != labels_T.shape[0]:
        raise ValueError(
            f"{hidden_TD.shape[0]} hidden states cannot predict {labels_T.shape[0]} labels"
        )
    rows_N = (labels_T[1:] != IGNORE_INDEX).nonzero().squeeze(1)
    hidden_ND = hidden_TD.index_select(0, rows_N)
    targets_N = labels_T[1:].index_select(0, rows_N)
    total: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_ND, head_VD, targets_N, head_bias_V, chunk_tokens, cap, False
    )
    return total, torch.tensor(rows_N.shape[0])


def padded_loss(
    logits_BLV: Tensor, labels_T: Tensor, lengths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Sum the cross-entropy of the completion tokens of a padded batch, in nats.

    Args:
        logits_BLV: Scores of a model's own forward, examples padded on the right.
        labels_T: Of all examples behind each other, as in `completion_loss`.
        lengths: Tokens of each example.

    Returns:
        As `completion_loss`.
    """
    losses_N, _ = _padded_losses(logits_BLV, labels_T, lengths)
    return losses_N.sum(), torch.tensor(losses_N.shape[0])


def _padded_losses(
    logits_BLV: Tensor, labels_T: Tensor, lengths: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """Return each labelled token's loss (N, nats, float32) and the index of its sequence (N)."""
    labels_BL = pad_sequence(
        list(labels_T.split(list(lengths))), batch_first=True, padding_value=IGNORE_INDEX
    )
    labelled = (labels_BL[:, 1:] != IGNORE_INDEX).nonzero(as_tuple=True)
    logits_NV = logits_BLV[:, :-1][labelled].float()
    losses_N = functional.cross_entropy(logits_NV, labels_BL[:, 1:][labelled], reduction="none")
    return losses_N, labelled[0]


def sequence_losses(
    hidden_TD: Tensor,
    head_VD: Tensor,
    labels_T: Tensor,
    lengths: Sequence[int],
    head_bias_V: Tensor | None = None,
    chunk_tokens: int = CHUNK_TOKENS,
    cap: float | None = None,
) -> Tensor:
    """Do what `completion_loss` does for each sequence of a row by itself.

    Args:
        hidden_TD: As in `completion_loss`, like what is not listed here.
        head_VD: Output embedding.
        labels_T: Token ids; IGNORE_INDEX on the first token of each sequence, too.
        lengths: Tokens of each sequence; their sum is T.
        head_bias_V: Bias of the output embedding.
        chunk_tokens: Rows of logits that exist at a time.
        cap: Of the logits.

    Returns:
        The sums in nats (S, float32).
    """
    rows_N = (labels_T[1:] != IGNORE_INDEX).nonzero().squeeze(1)
    losses_N: Tensor = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        hidden_TD.index_select(0, rows_N),
        head_VD,
        labels_T[1:].index_select(0, rows_N),
        head_bias_V,
        chunk_tokens,
        cap,
        True,
    )
    of_T = torch.repeat_interleave(torch.tensor(lengths, device=labels_T.device))
    return losses_N.new_zeros(len(lengths)).index_add(0, of_T[1:][rows_N], losses_N)


def padded_sequence_losses(logits_BLV: Tensor, labels_T: Tensor, lengths: Sequence[int]) -> Tensor:
    """Do what `padded_loss` does for each sequence by itself.

    Args:
        logits_BLV: As in `padded_loss`, like labels_T; a sequence a row.
        labels_T: Of all sequences behind each other.
        lengths: Tokens of each sequence.

    Returns:
        The sums in nats (S, float32).
    """
    losses_N, of_N = _padded_losses(logits_BLV, labels_T, lengths)
    return losses_N.new_zeros(len(lengths)).index_add(0, of_N, losses_N)


class _ChunkedCrossEntropy(torch.autograd.Function):
    """The gradient is made together with the loss, while a chunk's logits are still there.

    loss = log sum exp(logits) - logits[target], and d loss / d hidden = (softmax - one-hot) head.
    Returns the sum of the losses (scalar), or each token's own (N), in nats, float32.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        head_VD: Tensor,
        targets_N: Tensor,
        head_bias_V: Tensor | None,
        chunk_tokens: int,
        cap: float | None,
        each: bool,
    ) -> Tensor:
        total = torch.zeros((), dtype=torch.float32, device=hidden_ND.device)
        losses_N = total.new_zeros(hidden_ND.shape[0] if each else 0)
        needs_grad = ctx.needs_input_grad[0]
        grad_ND = torch.empty_like(hidden_ND) if needs_grad else None
        # Made once for all chunks: as large as they are, they would be fetched from the system
        # anew for each (a hundredth of a step on a CPU).
        size = (min(chunk_tokens, hidden_ND.shape[0]), head_VD.shape[0])
        narrow = hidden_ND.new_empty(size)
        if head_bias_V is None and cap is None and kernels.usable(hidden_ND):
            ctx.grad_ND = grad_ND
            losses_N = _losses_in_place(hidden_ND, head_VD, targets_N, narrow, grad_ND)
            return losses_N if each else losses_N.sum()
        wide = narrow if narrow.dtype == torch.float32 else total.new_empty(size)
        shares = torch.empty_like(wide)
        for begin in range(0, hidden_ND.shape[0], chunk_tokens):
            hidden_CD = hidden_ND[begin : begin + chunk_tokens]
            targets_C1 = targets_N[begin : begin + chunk_tokens, None]
            narrow_CV, logits_CV, log_share_CV = (
                whole[: hidden_CD.shape[0]] for whole in (narrow, wide, shares)
            )
            torch.mm(hidden_CD, head_VD.T, out=narrow_CV)
            if wide is not narrow:
                logits_CV.copy_(narrow_CV)
            if head_bias_V is not None:
                logits_CV += head_bias_V.float()
            cap_grad_CV = None
            if cap is not None:
                squeezed_CV = logits_CV.div_(cap).tanh_()
                if grad_ND is not None:
                    cap_grad_CV = 1 - squeezed_CV.square()
                logits_CV = squeezed_CV * cap
            # One kernel, row by row within the cache, where logsumexp passes four times over all.
            torch.log_softmax(logits_CV, 1, out=log_share_CV)
            likely_C1 = log_share_CV.gather(1, targets_C1)
            if each:
                losses_N[begin : begin + chunk_tokens] = -likely_C1.squeeze(1)
            else:
                total -= likely_C1.sum()
            if grad_ND is not None:
                # d loss / d logits = softmax - one-hot
                grad_CV = log_share_CV.exp_()
                grad_CV.scatter_add_(1, targets_C1, grad_CV.new_full(targets_C1.shape, -1.0))
                if cap_grad_CV is not None:
                    grad_CV.mul_(cap_grad_CV)
                if wide is not narrow:
                    grad_CV = narrow_CV.copy_(grad_CV)
                torch.mm(grad_CV, head_VD, out=grad_ND[begin : begin + chunk_tokens])
        ctx.grad_ND = grad_ND
        return losses_N if each else total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        # One factor for all, or one for each row.
        factor = grads[0][:, None] if grads[0].dim() else grads[0]
        return ctx.grad_ND.mul_(factor), None, None, None, None, None, None


def _losses_in_place(
    hidden_ND: Tensor,
    head_VD: Tensor,
    targets_N: Tensor,
    logits_CV: Tensor,
    grad_ND: Tensor | None,
) -> Tensor:
    """Do the same with one kernel between the products, which makes gradients of scores."""
    losses_N = hidden_ND.new_empty(hidden_ND.shape[0], dtype=torch.float32)
    size = max(1, logits_CV.shape[0])  # in a row that fills up others nothing is labelled
    for begin in range(0, hidden_ND.shape[0], size):
        part = slice(begin, begin + size)
        hidden_CD = hidden_ND[part]
        some_CV = torch.mm(hidden_CD, head_VD.T, out=logits_CV[: hidden_CD.shape[0]])
        kernels.cross_entropy_(some_CV, targets_N[part], losses_N[part], grad_ND is not None)
        if grad_ND is not None:
            torch.mm(some_CV, head_VD, out=grad_ND[part])
    return losses_N
