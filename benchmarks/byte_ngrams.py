"""What Banking77 is worth without a network: logistic regression on bags of byte n-grams, on the rows that the recipe trains on.

    python benchmarks/byte_ngrams.py

The n-grams (1 to 4 bytes, tf-idf with sublinear counts) and the regularisation are chosen on the validation rows. Leaves
`runs/banking77_byte_ngrams/metrics.json`.
"""

import time

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from perceiver.data import Banking77
from perceiver.data.source import Split
from perceiver.run_folder import RunFolder
from perceiver.tokenizer import decode


def split(name: Split) -> tuple[list[str], list[int]]:
    """Texts, one character a byte, and classes."""
    rows = Banking77().rows(name)
    read = [rows.row(i, np.random.default_rng(0)) for i in range(len(rows))]
    return [decode(row["text"].tolist()).decode("latin-1") for row in read], [row["target"] for row in read]


if __name__ == "__main__":
    began = time.perf_counter()
    texts, classes = split("train")
    vectorizer = TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, min_df=2, lowercase=True)
    features = vectorizer.fit_transform(texts)
    models = {c: LogisticRegression(C=c, max_iter=500).fit(features, classes) for c in (3.0, 10.0, 30.0)}
    scores = {c: model.score(vectorizer.transform((rows := split("val"))[0]), rows[1]) for c, model in models.items()}
    best = max(scores, key=lambda c: scores[c])
    test_texts, test_classes = split("test")
    accuracy = models[best].score(vectorizer.transform(test_texts), test_classes)
    print(f"{features.shape[1]:,} n-grams; validation {', '.join(f'{100 * s:.2f} % at C={c:g}' for c, s in scores.items())}")
    print(f"test accuracy {100 * accuracy:.2f} % at C={best:g}, in {time.perf_counter() - began:.0f} s")
    folder = RunFolder("runs/banking77_byte_ngrams")
    folder.prepare()
    folder.update_metrics({"test/accuracy/banking77": accuracy, "train/seconds": time.perf_counter() - began})
