"""The words and rules of the synthetic tasks, as literal tables read by `grammar`.

A rule maps a symbol to its alternatives; `{symbol}` inside an alternative is expanded in turn.
Where a symbol has a pair of tables (negative, positive), the polarity of the sentence chooses,
and `{-symbol}` expands the symbol under the opposite polarity.
"""

__all__ = [
    "ACTIONS",
    "FACTS",
    "MOVIES",
    "NEWS",
    "PEOPLE",
    "PRODUCTS",
    "REPORTS",
    "SENTIMENT",
    "TIMES",
    "TOPICS",
    "UNSAID",
    "Rules",
]

# Word lists are read by the line, not by the word.
# fmt: off

Rules = dict[str, tuple[str, ...] | tuple[tuple[str, ...], tuple[str, ...]]]

# === Sentiment ===

SENTIMENT: Rules = {
    "sentence": (
        "{claim}.",
        "{claim}.",
        "{opener}, {claim}.",
        "{claim}, and {claim}.",
        "{claim} and {claim}, {close}.",
        "although {-claim}, {claim}.",
        "even though {-claim}, {claim}, {close}.",
        "{-claim}, but {claim}.",
        "{opener}, {-claim}, but {claim}.",
        "{-claim}; {still}, {claim}, and {verdict}.",
        "{circumstance}, and {claim}.",
        "{circumstance}, {circumstance}, and {opener}, {claim}.",
        "{circumstance}; {claim}, {claim}, and {verdict}.",
        "{verdict}: {claim}.",
        "what a {adjective} {item}!",
        "{a_quality} {item}, {close}.",
    ),
    "claim": (
        "the {part} was {quality}",
        "the {part} was {quality}",
        "I found the {part} {quality}",
        "everyone thought the {part} was {quality}",
        "the {part} and the {part} were both {adjective}",
        "this {item} is {quality}",
        "the {item} {event}",
        "the {item} {event}",
        "this is {a_quality} {item}",
        "it was {a_quality} {item} with {a_quality} {part}",
    ),
    "quality": (
        "{adjective}",
        "{adjective}",
        "{degree} {adjective}",
        "{degree} {adjective}",
        "{adjective} and {adjective}",
        "not at all {-adjective}",
        "anything but {-adjective}",
        "far from {-adjective}",
        "by no means {-adjective}",
    ),
    "a_quality": ("a {adjective}", "a {degree} {adjective}", "a {adjective} and {adjective}"),
    "degree": ("really", "truly", "very", "quite", "rather", "simply", "remarkably"),
    "still": ("still", "even so", "all the same", "in the end"),
    "opener": (
        "to be honest", "in my opinion", "all in all", "to my surprise", "as far as I can tell",
        "if you ask me", "in short", "on the whole", "looking back",
    ),
    "close": (
        ("and I was let down", "which was a shame", "so I cannot recommend it",
         "much to my regret", "and I want my money back"),
        ("and I was delighted", "which was a treat", "so I gladly recommend it",
         "much to my delight", "and I would pay for it again"),
    ),
    "verdict": (
        ("I regret it", "I disliked it", "it was a mistake", "nobody should bother",
         "we were all disappointed", "I hated it", "it let me down"),
        ("I am glad", "I liked it", "it was a joy", "everybody should try it",
         "we were all pleased", "I loved it", "it won me over"),
    ),
}

MOVIES: Rules = {
    "item": (
        "film", "movie", "picture", "comedy", "thriller", "drama", "documentary", "sequel",
        "remake", "cartoon", "western", "romance", "horror film", "love story", "war film",
    ),
    "part": (
        "plot", "acting", "script", "ending", "dialogue", "music", "story", "photography",
        "opening scene", "second half", "leading man", "leading lady", "director's touch",
        "final act", "humor", "editing", "love scene", "chase", "villain", "hero",
    ),
    "adjective": (
        ("bad", "terrible", "awful", "dull", "boring", "weak", "poor", "tedious", "clumsy",
         "dreadful", "disappointing", "flat", "horrible", "annoying", "forgettable", "lifeless",
         "predictable", "stupid", "pointless", "tiresome", "mediocre", "ridiculous"),
        ("good", "great", "wonderful", "funny", "superb", "gripping", "charming", "clever",
         "brilliant", "delightful", "touching", "beautiful", "memorable", "enjoyable", "fresh",
         "excellent", "lovely", "fantastic", "moving", "fascinating", "splendid", "exciting"),
    ),
    "event": (
        ("put me to sleep", "is a waste of two hours", "never comes to life", "made no sense",
         "goes nowhere", "made me leave early", "insults its audience", "falls apart halfway"),
        ("kept me smiling to the end", "is worth seeing twice", "made me laugh out loud",
         "won my heart", "held us from the first minute", "made me want to stay for more",
         "respects its audience", "deserves every prize"),
    ),
    "circumstance": (
        "I saw the {item} with my sister", "we watched it on a rainy evening",
        "the {item} runs for two hours", "it was shown at a small theater",
        "the {item} is set in Paris", "my friends chose the {item}", "it opened last week",
        "the {item} follows two brothers", "we had seats in the front row",
    ),
}

PRODUCTS: Rules = {
    "item": (
        "phone", "lamp", "chair", "kettle", "jacket", "backpack", "camera", "vacuum", "blender",
        "table", "toaster", "watch", "keyboard", "tent", "mattress", "printer", "bicycle", "radio",
    ),
    "part": (
        "price", "quality", "design", "material", "finish", "handle", "color", "packaging",
        "service", "delivery", "manual", "size", "lid", "battery", "warranty", "cable", "switch",
        "surface", "weight", "strap",
    ),
    "adjective": (
        ("bad", "terrible", "awful", "useless", "flimsy", "weak", "poor", "unreliable", "clumsy",
         "dreadful", "disappointing", "shoddy", "horrible", "annoying", "worthless", "defective",
         "unpleasant", "ugly", "pointless", "mediocre"),
        ("good", "great", "wonderful", "handy", "superb", "sturdy", "reliable", "practical",
         "brilliant", "delightful", "perfect", "beautiful", "solid", "pleasant", "fine",
         "excellent", "lovely", "fantastic", "impressive", "splendid"),
    ),
    "event": (
        ("broke after two days", "stopped working within a week", "arrived damaged",
         "is a waste of money", "fell apart at once", "never worked", "smells of burnt plastic",
         "went straight back to the shop"),
        ("still works after two years", "does exactly what it promises", "arrived in one piece",
         "is worth every penny", "has made my life easier", "never let me down",
         "looks even better than in the picture", "became my favorite at once"),
    ),
    "circumstance": (
        "I bought the {item} for my mother", "we ordered it two weeks ago",
        "the {item} comes in three colors", "it was a birthday present",
        "we use it every morning", "my neighbor has the same {item}", "it came on a Monday",
        "the {item} stands in the kitchen", "I had an older {item} before",
    ),
}

# === Topic ===

NEWS: Rules = {
    "sentence": (
        "{who} {did} {what}.",
        "{when}, {who} {did} {what}.",
        "{who} {did} {what} {when}.",
        "{source} that {who} {did} {what}.",
        "{when}, {source} that {who} {did} {what}, and {who} {did} {what}.",
        "{who} {did} {what} before {who} {did} {what}.",
        "after {who} {did} {what}, {who} {did} {what} {when}.",
    ),
    "when": (
        "last night", "on Monday", "on Friday morning", "this week", "earlier this year",
        "on the weekend", "yesterday", "at the end of the month", "to general surprise",
    ),
    "source": (
        "the paper wrote", "it was reported", "we heard", "the radio said", "people say",
        "a witness recalled", "my uncle told us",
    ),
}

TOPICS: dict[str, Rules] = {
    "sports": {
        "who": ("the home team", "the goalkeeper", "the young striker", "the coach",
                "the tennis champion", "a marathon runner", "the visiting side", "the captain"),
        "did": ("won", "lost", "nearly missed", "prepared for", "celebrated", "was injured in"),
        "what": ("the final match", "the league game", "the second round", "the cup tie",
                 "the championship", "the race", "the decisive set", "the training session"),
    },
    "business": {
        "who": ("the bank", "a large insurer", "the car maker", "the chief executive",
                "the investors", "a software company", "the retailer", "the airline"),
        "did": ("announced", "approved", "rejected", "reported", "postponed", "defended"),
        "what": ("a takeover bid", "higher profits", "the quarterly results", "a rise in prices",
                 "the sale of shares", "new jobs at the plant", "a loan", "the annual budget"),
    },
    "science": {
        "who": ("a team of physicists", "the astronomers", "a young chemist", "the laboratory",
                "the biologists", "a space probe", "the researchers", "a professor of geology"),
        "did": ("discovered", "measured", "described", "studied", "photographed", "explained"),
        "what": ("a distant planet", "the cells of a rare plant", "an unknown particle",
                 "the surface of the moon", "a new kind of virus", "fossil bones",
                 "the temperature of the ocean", "the genes of a mouse"),
    },
    "food": {
        "who": ("the chef", "my grandmother", "the baker", "the new restaurant", "the cook",
                "a street vendor", "the hungry guests", "the waiter"),
        "did": ("served", "tasted", "prepared", "ordered", "burned", "praised"),
        "what": ("a bowl of hot soup", "fresh bread", "the roast chicken", "a chocolate cake",
                 "the tomato salad", "grilled fish", "a plate of noodles", "the apple pie"),
    },
}

# === Paraphrase: the same facts told in two ways, or one fact changed ===

REPORTS: Rules = {
    "first": (
        "{firm} said on {day} that it will {plan} in {city} {date}.",
        "{firm} announced on {day} that it is going to {plan} in {city} {date}.",
        "on {day}, {firm} said it would {plan} in {city} {date}.",
    ),
    "second": (
        "in {city}, {firm} will {plan} {date}, the company told reporters on {day}.",
        "{firm} wants to {plan} in {city} {date}, according to a statement issued on {day}.",
        "according to a {day} announcement, {firm} plans to {plan} in {city} {date}.",
        "{date}, {firm} is to {plan} in {city}, it was announced on {day}.",
    ),
}

FACTS: dict[str, tuple[str, ...]] = {
    "firm": ("Harlan Foods", "Northgate Bank", "Sunrise Motors", "Bluewater Oil", "Carter Steel",
             "Oakfield Paper", "Silverline Rail", "Greenway Farms", "Redstone Mining",
             "Lakeside Press"),
    "day": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "plan": ("hire two hundred workers", "close its factory", "build a new office",
             "open three stores", "cut ninety jobs", "sell its oldest plant",
             "test an electric bus", "raise its prices", "lower its prices", "train young people"),
    "city": ("Boston", "London", "Chicago", "Dublin", "Seattle", "Madrid", "Toronto", "Vienna",
             "Denver", "Sydney"),
    "date": ("next year", "next month", "in the spring", "in the autumn", "within three weeks",
             "before Christmas", "by the end of June"),
}

# === Entailment: an action implies its wider forms and excludes every other action ===

PEOPLE: dict[str, str] = {
    "a young man": "man", "an old man": "man", "a tall man": "man", "a man in a blue coat": "man",
    "a man with a beard": "man", "a young woman": "woman", "an old woman": "woman",
    "a woman in a red dress": "woman", "a woman with glasses": "woman", "a tall woman": "woman",
    "a little boy": "boy", "a boy in a yellow shirt": "boy", "a small boy": "boy",
    "a little girl": "girl", "a girl with a hat": "girl", "a girl in green boots": "girl",
}

ACTIONS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    # what is seen: (what it implies, where it happens)
    "sleeping on a bench": (("sleeping", "resting"), ("in the park", "at the station")),
    "swimming": (("swimming", "in the water"), ("in the lake", "in the sea", "in a pool")),
    "riding a brown horse": (("riding a horse", "riding an animal"),
                             ("on the beach", "in the woods", "across a field")),
    "playing the piano": (("playing an instrument", "making music"),
                          ("in a concert hall", "at home", "in a hotel")),
    "playing the violin": (("playing an instrument", "making music"),
                           ("in a church", "in the street", "on a stage")),
    "washing the dishes": (("washing something", "doing housework"),
                           ("in the kitchen", "in a restaurant")),
    "painting a wall": (("painting", "holding a brush"), ("in the garden", "in an empty house")),
    "driving an old car": (("driving a car", "driving a vehicle"),
                           ("through the city", "along the coast", "over a bridge")),
    "chopping wood": (("using an axe", "doing hard work"), ("behind the barn", "in the yard")),
    "climbing a steep rock": (("climbing a rock", "climbing"), ("in the mountains", "by the sea")),
    "eating a red apple": (("eating an apple", "eating fruit"), ("in the kitchen", "on a train")),
    "writing a long letter": (("writing a letter", "writing"), ("at a desk", "in a library")),
}

TIMES: tuple[str, ...] = (
    "", " in the morning", " in the evening", " on a sunny day", " on a cold day", " after school",
    " before lunch", " while people pass by", " while a dog watches", " on Sunday",
)

UNSAID: tuple[str, ...] = (
    "is waiting for a friend", "has two brothers", "is thinking about the weekend",
    "lives nearby", "is going to buy a new coat", "was born in April", "has a sister in London",
    "does this every day", "is late for dinner", "speaks three languages",
)
