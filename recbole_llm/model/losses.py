"""Losses over the whole catalogue: user vectors and an item table in, one number out.

All take ``user_TH`` (T, H), ``item_IH`` (I, H; row 0 is padding and never a candidate) and ``target_T`` (T,) item ids.

Rows are taken by ``F.embedding``, not by indexing: the gradient of an indexed row is summed by atomic additions, in
another order at every run, and two runs with one seed would differ in the last bits.

Sources: sampled softmax with log Q correction: Yoshua Bengio and Jean-Sebastien Senecal, 2003; for ranking: Xinyang Yi
et al., RecSys 2019. gBCE: Aleksandr Petrov and Craig Macdonald, "gSASRec", RecSys 2023, https://arxiv.org/abs/2308.07192

Shapes: T targets, H vector size, I items with padding, K negatives, N items of a batch, C rows of a chunk.
"""

import math

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from .layout import rounded

PADDING_LOGIT = -1e4  # far below any score, yet finite in bfloat16
# logits held at a time, of a CPU 512 rows on ml-1m, which its caches hold: the full matrix is never made
CELLS = {"cpu": 1_900_000, "cuda": 2**26}
FEWEST_ROWS = 16  # of them, however large the catalogue
OWN_ROWS = 256  # rows whose own negatives are looked up at a time


class _FullSoftmax(torch.autograd.Function):
    """Mean cross-entropy over all items, computed chunk by chunk, with the gradient made on the way forward.

    The usual way keeps T x I logits for the backward pass (ml-1m: 20 GB for an epoch's batch of 256 windows); here one
    chunk of logits lives at a time and is used at once for the loss and for both gradients.
    """

    @staticmethod
    def forward(ctx, user_TH, item_IH, target_T, n_fixed, seen_TL, dtype):
        n_targets, n_learned = len(target_T), item_IH.shape[1] - n_fixed
        item_low_IH = item_IH.to(dtype)
        user_low_TH = F.pad(user_TH.to(dtype), (0, 0, 0, rounded(n_targets) - n_targets))
        chunk, item_low_HI = max(CELLS[user_TH.device.type] // len(item_IH), FEWEST_ROWS), item_low_IH.t()
        if n_targets > chunk:  # of several products each is faster, but for one a copy costs more
            item_low_HI = item_low_HI.contiguous()
        rows = min(chunk, len(user_low_TH))
        # two buffers, one where both types are the same, for all chunks: fresh memory costs more than the sums
        low_CI = user_low_TH.new_empty(rows, len(item_IH))
        exact_CI = low_CI if low_CI.dtype == item_IH.dtype else item_IH.new_empty(rows, len(item_IH))
        grad_user_TH, grad_item_IH = torch.empty_like(user_TH), item_IH.new_zeros(len(item_IH), n_learned)
        total = user_TH.new_zeros((), dtype=torch.float64)
        for start in range(0, n_targets, chunk):
            user_CH, target_C1 = user_low_TH[start : start + chunk], target_T[start : start + chunk, None]
            count, logit_CI = len(target_C1), torch.mm(user_CH, item_low_HI, out=low_CI[: len(user_CH)])
            logit_CI[:, 0] = PADDING_LOGIT
            if seen_TL is not None:
                logit_CI[:count].scatter_(1, seen_TL[start : start + chunk], PADDING_LOGIT)
            share_CI = exact_CI[:count].copy_(logit_CI[:count])
            own_C1, top_C1 = share_CI.gather(1, target_C1), share_CI.amax(1, keepdim=True)
            mass_C1 = share_CI.sub_(top_C1).exp_().sum(1, keepdim=True)
            total += (mass_C1.log() + top_C1 - own_C1).sum(dtype=torch.float64)
            share_CI.div_(mass_C1).scatter_add_(1, target_C1, -torch.ones_like(own_C1))
            residue_CI = logit_CI
            residue_CI[:count], residue_CI[count:] = share_CI, 0
            grad_user_TH[start : start + chunk] = (residue_CI @ item_low_IH)[:count]
            grad_item_IH += residue_CI.t() @ user_CH[:, :n_learned]
        ctx.n_fixed = n_fixed
        ctx.save_for_backward(grad_user_TH.div_(n_targets), grad_item_IH.div_(n_targets))
        return (total / n_targets).to(user_TH.dtype)

    @staticmethod
    def backward(ctx, grad):
        grad_user_TH, grad_item_IH = ctx.saved_tensors
        grad_item_IH = grad_item_IH * grad
        if ctx.n_fixed:  # to pad by nothing would be a copy
            grad_item_IH = F.pad(grad_item_IH, (0, ctx.n_fixed))
        return grad_user_TH * grad, grad_item_IH, None, None, None, None


def full_softmax(user_TH, item_IH, target_T, n_fixed=0, seen_TL=None):
    """Mean cross-entropy of the target among all items but padding; the products in autocast's type where it is on.

    The last ``n_fixed`` numbers of each item learn nothing: their gradient is not made. Nor is an item a candidate that
    stands in the target's row of ``seen_TL``, (T, L) item ids, where padding fills up; a target must not stand there.
    """
    device, dtype = user_TH.device.type, user_TH.dtype
    if torch.is_autocast_enabled(device):
        user_TH, item_IH, dtype = user_TH.float(), item_IH.float(), torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        return _FullSoftmax.apply(user_TH, item_IH, target_T, n_fixed, seen_TL, dtype)


def sampled_softmax(user_TH, item_IH, target_T, negative, log_q_I=None):
    """Mean cross-entropy of the target among itself and K negatives, (K,) for the batch or (T, K) for each row.

    ``log_q_I`` is the logarithm of each item's chance to be drawn; it is taken off the scores, so that items that are
    drawn more often are not pushed down more. Uniform negatives need none: it is a constant.
    """
    positive_T1 = (user_TH * F.embedding(target_T, item_IH)).sum(1, keepdim=True)
    if log_q_I is not None:
        positive_T1 = positive_T1 - log_q_I[target_T, None]
    logit = torch.cat([positive_T1, negative_logits(user_TH, item_IH, target_T, negative, log_q_I)], 1)
    return F.cross_entropy(logit, torch.zeros_like(target_T))


def noise_contrastive(user_TH, item_IH, target_T, negative, *, threshold):
    """HLLM's loss: cross-entropy of the target, first, against K negatives, by cosines over a temperature.

    ``item_IH`` has rows of length 1, ``user_TH`` is divided by the temperature. A negative whose cosine with the target
    is above ``threshold`` is a false one (the same item, or its copy) and is left out, as float32 sees it
    whatever autocast says: in bfloat16 0.9905 and 0.9915 are one number.

    Junyi Chen et al., "HLLM", 2024, https://arxiv.org/abs/2409.12740
    """
    target_TH, negative_KH = F.embedding(target_T, item_IH), F.embedding(negative, item_IH)
    positive_T1 = (user_TH * target_TH).sum(1, keepdim=True)
    with torch.no_grad(), torch.autocast(user_TH.device.type, enabled=False):
        false_TK = target_TH.float() @ negative_KH.float().t() > threshold
    logit_TK = (user_TH @ negative_KH.t()).masked_fill(false_TK, PADDING_LOGIT)
    logit_TK = logit_TK.masked_fill(negative == target_T[:, None], PADDING_LOGIT)
    return F.cross_entropy(torch.cat([positive_T1, logit_TK], 1), torch.zeros_like(target_T))


def generalised_bce(user_TH, item_IH, target_T, negative, *, calibration, n_items=None):
    """Binary cross-entropy calibrated for sampling (gBCE), with K negatives for the batch or for each row.

    The positive's log-sigmoid is weighted by beta = a (t (1 - 1/a) + 1/a), eq. (12) of the paper, with a the share
    of the other items that were drawn and t the ``calibration``; t = 0 is BCE. ``n_items`` counts all items, padding
    included, where ``item_IH`` has some of them only.
    """
    count = negative.shape[-1]
    rate = count / ((n_items or len(item_IH)) - 2)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    positive_T = (user_TH * F.embedding(target_T, item_IH)).sum(1)
    lost_TK = F.logsigmoid(-negative_logits(user_TH, item_IH, target_T, negative))
    return -(beta * F.logsigmoid(positive_T) + lost_TK.sum(1)).mean() / (count + 1)


def negative_logits(user_TH, item_IH, target_T, negative, log_q_I=None):
    """(T, K): the scores of the negatives; far below any where a negative is the row's own target."""
    if negative.dim() == 1:
        logit_TK = user_TH @ F.embedding(negative, item_IH).t()
    else:  # a (T, K, H) tensor would be gigabytes: made for some rows at a time, and again on the way back
        rows = zip(user_TH.split(OWN_ROWS), negative.split(OWN_ROWS), strict=True)
        logit_TK = torch.cat([checkpoint(_own_logits, *row, item_IH, use_reentrant=False) for row in rows])
    if log_q_I is not None:
        logit_TK = logit_TK - log_q_I[negative]
    return logit_TK.masked_fill(negative == target_T[:, None], PADDING_LOGIT)


def _own_logits(user_CH, negative_CK, item_IH):
    return torch.einsum("ch,ckh->ck", user_CH, F.embedding(negative_CK, item_IH))


def draw_negatives(kind, count, target_T, n_items):
    """Item ids, padding left out, on the targets' device.

    ``shared``: (K,), drawn uniformly without repeats, all items where ``count`` is larger; ``row``: (T, K), drawn
    uniformly; ``batch``: (K,) of the batch's targets, so popular ones more often.
    """
    device = target_T.device
    match kind:
        case "shared":
            return torch.randperm(n_items - 1, device=device)[: min(count, n_items - 1)] + 1
        case "row":
            return torch.randint(1, n_items, (len(target_T), count), device=device)
        case "batch":
            return target_T[torch.randint(len(target_T), (count,), device=device)]


def alignment(first_NH, second_NH, *, temperature):
    """Symmetric InfoNCE between two views of the same N items: each should find its own other view."""
    logit_NN = F.normalize(first_NH, dim=1) @ F.normalize(second_NH, dim=1).t() / temperature
    own = torch.arange(len(logit_NN), device=logit_NN.device)
    return (F.cross_entropy(logit_NN, own) + F.cross_entropy(logit_NN.t(), own)) / 2


def alignment_and_uniformity(first_BH, second_BH, which="both", most=2048):
    """L_align + (L_unif(first) + L_unif(second)) / 2 between two views of the same B things; None for fewer than two.

    L_align, from 0 to 4, is the mean squared distance of a thing's two views on the unit sphere; L_unif, at most 0, the
    logarithm of the mean of exp(-2 d^2) over all pairs of one view. Pairs grow like B^2: they are those of the first
    ``most`` things.

    Tongzhou Wang and Phillip Isola, ICML 2020, https://arxiv.org/abs/2005.10242; as DirectAU, Chenyang Wang et al., KDD
    2022, https://arxiv.org/abs/2206.12811, has them.
    """
    if len(first_BH) < 2:
        return None
    first_BH, second_BH = (F.normalize(view.float(), dim=1) for view in (first_BH, second_BH))
    align = (first_BH - second_BH).pow(2).sum(1).mean()
    if which == "align":
        return align
    uniform = (_uniformity(first_BH[:most]) + _uniformity(second_BH[:most])) / 2
    return uniform if which == "uniform" else align + uniform


def _uniformity(unit_BH):
    """The logarithm of the mean of exp(-2 d^2) over all pairs of unit vectors, d^2 = 2 - 2 cos."""
    near_BB = torch.exp(4 * (unit_BH @ unit_BH.t()) - 4)
    count = len(unit_BH)
    return ((near_BB.sum() - near_BB.diagonal().sum()) / (count * (count - 1))).log()


def decorrelation(first_NH, second_NH, *, off_diagonal=0.005):
    """Barlow-type loss over dimensions: |diag(C) - 1|^2 + ``off_diagonal`` |offdiag(C)|^2, C the cross-correlation.

    Jure Zbontar et al., "Barlow Twins", ICML 2021, https://arxiv.org/abs/2103.03230
    """
    first_NH, second_NH = (
        (view - view.mean(0)) / (view.std(0, unbiased=False) + 1e-6) for view in (first_NH, second_NH)
    )
    correlation_HH = first_NH.t() @ second_NH / len(first_NH)
    diagonal = torch.diagonal(correlation_HH)
    rest = correlation_HH.pow(2).sum() - diagonal.pow(2).sum()
    return (diagonal - 1).pow(2).sum() + off_diagonal * rest


def temperature_of(log_temperature, lowest=0.01, highest=1.0):
    """The learned temperature kept within its bounds; it is learned as a logarithm, so that steps are relative.

    In training the logarithm itself is brought back to them, in place: beyond, it would have no gradient and stay.
    """
    bounds = math.log(lowest), math.log(highest)
    if torch.is_grad_enabled():
        log_temperature.data.clamp_(*bounds)
    return log_temperature.clamp(*bounds).exp()
