"""What can be learned beside clicks: each task with its labels in a store, its head and how it is judged."""

from counterpoint.news.tasks.classification import TitleClass
from counterpoint.news.tasks.protocol import Task
from counterpoint.news.tasks.regression import READ_TIME, SCROLL, TitleScore
from counterpoint.news.tasks.tagging import TitleTags

TASKS: dict[str, Task] = {
    "category": TitleClass("category", lambda recipe: recipe.category.field),
    "entities": TitleTags("entities"),
    "sentiment": TitleClass("sentiment", lambda _: "sentiment"),
    "sentiment_score": TitleScore("sentiment_score"),
    "read_time": READ_TIME,
    "scroll": SCROLL,
}
"""The auxiliary tasks, by the names that recipes use."""
