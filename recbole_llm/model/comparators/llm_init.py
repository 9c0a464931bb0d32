"""LLM-initialised items: any model whose item embeddings start at the principal components of the items' texts.

As LLM2BERT4Rec and LLM2SASRec: Jesse Harte et al., "Leveraging Large Language Models for Sequential Recommendation",
RecSys 2023, https://arxiv.org/abs/2309.09261. After the start nothing is different from the model itself.
"""

from dataclasses import dataclass

from recbole.model.abstract_recommender import SequentialRecommender
from recbole.utils import InputType

from ...config import settings_from
from ...errors import SettingError
from ..backbones import inner_model
from ..items import FieldViews, start_from_text


@dataclass(frozen=True)
class Settings:
    """The key of ``properties/model/LLMInit.yaml``; all others are the backbone's."""

    backbone: str


class LLMInit(SequentialRecommender):
    """The model named by ``backbone``, which must have an ``item_embedding``."""

    input_type = InputType.POINTWISE
    learns, causal, leaves_out_seen = True, False, True

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        name = settings_from(config, Settings).backbone
        self.model = inner_model(name, config, dataset)
        if config["no_repeats"] and not getattr(self.model, "leaves_out_seen", False):
            raise SettingError(
                f"no_repeats leaves seen items out of the loss, and {name} has none that can; set no_repeats: False"
            )
        views = [FieldViews.of(field, (), 1) for field in dataset.text_vectors.values()]
        weight = self.model.item_embedding.weight.data
        start_IH = start_from_text(views, weight.shape[1], std=float(weight[1:].std()))
        weight[: len(start_IH)] = start_IH

    @staticmethod
    def reads_text(config):
        """The items start at their texts."""
        return True

    def forward(self, *inputs):
        """What the backbone makes of its inputs."""
        return self.model(*inputs)

    def calculate_loss(self, interaction):
        """The backbone's loss."""
        return self.model.calculate_loss(interaction)

    def full_sort_predict(self, interaction):
        """(B, I): the backbone's scores."""
        return self.model.full_sort_predict(interaction)

    def predict(self, interaction):
        """(B,): the backbone's score of one item of each row."""
        return self.model.predict(interaction)
