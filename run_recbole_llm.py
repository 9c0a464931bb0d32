"""Train and test a model: python run_recbole_llm.py --model=LLMSeqRec --dataset=ml-100k."""

from recbole_llm.cli import train

if __name__ == "__main__":
    train()
