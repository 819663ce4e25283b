"""What the demo model is taught to know and to say: tables of facts, names, phrases and fixed answers.

Imported by the other data modules of this folder. Changing anything here changes the training data.
"""

from typing import Final


def listed(text: str, between: str = "|") -> list[str]:
    return text.split(between)


def table(text: str) -> dict[str, str]:
    """ "a=b|c=d" as a dictionary."""
    return dict(pair.split("=") for pair in listed(text))


IDENTITY: Final = "I am Tiny, the demo model of qwenfile."
ABILITIES: Final = (
    "I can chat, count, add numbers, spell words, name capitals, remember things and call tools. "
    "I am only a small demo."
)
UNKNOWN: Final = "Sorry, I do not know that. I am only a small demo."
NO_TOOL: Final = "Sorry, I have no tool for that."

CAPITALS: Final = table(
    "France=Paris|Germany=Berlin|Italy=Rome|Spain=Madrid|Portugal=Lisbon|Austria=Vienna|Greece=Athens|Norway=Oslo|"
    "Sweden=Stockholm|Finland=Helsinki|Denmark=Copenhagen|Poland=Warsaw|Hungary=Budapest|Ireland=Dublin|"
    "Belgium=Brussels|Japan=Tokyo|China=Beijing|India=Delhi|Egypt=Cairo|Kenya=Nairobi|Peru=Lima|Cuba=Havana|"
    "Chile=Santiago|Canada=Ottawa|Russia=Moscow|Turkey=Ankara|Iran=Tehran|Iraq=Baghdad|Thailand=Bangkok|"
    "Vietnam=Hanoi|Mexico=Mexico City|Argentina=Buenos Aires|Switzerland=Bern|Ukraine=Kyiv|Iceland=Reykjavik|"
    "Colombia=Bogota|Ghana=Accra|Australia=Canberra|Brazil=Brasilia|Korea=Seoul"
)
OPPOSITES: Final = table(
    "hot=cold|big=small|up=down|good=bad|light=dark|fast=slow|happy=sad|old=new|rich=poor|wet=dry|open=closed|"
    "early=late|hard=soft|high=low|full=empty|loud=quiet"
)
SOUNDS: Final = table("cow=moo|dog=woof|cat=meow|duck=quack|sheep=baa|pig=oink|lion=roar|bee=buzz|owl=hoot|snake=hiss")
COLORS_OF: Final = table(
    "grass=green|snow=white|blood=red|coal=black|milk=white|banana=yellow|sky=blue|tomato=red|carrot=orange|"
    "chocolate=brown"
)
HELLO_IN: Final = table(
    "French=Bonjour !|German=Guten Tag!|Spanish=¡Hola!|Italian=Ciao!|Japanese=こんにちは|Chinese=你好|Russian=Привет!|"
    "Greek=Γειά σου!|Korean=안녕하세요|Portuguese=Olá!|Swedish=Hej!|Arabic=مرحبا"
)
DAYS: Final = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday", " ")
MONTHS: Final = listed("January February March April May June July August September October November December", " ")

WORDS: Final = listed(
    "strawberry banana apple cherry tree house letter coffee summer winter river mountain window garden paper hello "
    "book moon butter pepper bottle rabbit puzzle mirror yellow green purple orange kitten puppy chess piano guitar "
    "drum school street animal planet rocket castle dragon island bridge market doctor teacher farmer pencil needle "
    "silver cotton ribbon basket pillow",
    " ",
)
FRUITS: Final = listed("apple banana cherry grape lemon mango orange peach pear plum melon kiwi", " ")
COLORS: Final = listed("red green blue yellow orange purple pink black white brown grey teal gold silver", " ")
PETS: Final = listed("cat dog fish bird horse", " ")
NAMES: Final = listed(
    "Anna Ben Carla David Emma Frank Gina Henry Iris Jack Karen Leo Maria Nick Olga Peter Quinn Rosa Sam Tina Uma "
    "Victor Wendy Xavier Yara Zoe Alice Bob Chris Diana Eric Fiona George Helen Ivan Julia Kevin Laura Mark Nora "
    "Oscar Paul Rita Simon Tom Vera Will Lucy Max Mia",
    " ",
)
HELD_OUT_NAMES: Final = listed(
    "Ada Linus Grace Alan Margaret Dennis Barbara Edsger Donald Radia Vint Sophie Guido Bjarne Hedy Claude Noam Ilya "
    "Yann Sanjay",
    " ",
)
TOPICS: Final = listed(
    "quantum physics|the stock market|football|politics|love|music|the universe|cheese|gravity|bitcoin|computers|"
    "religion|war|your mother|cars|the weather|history|pizza|a castle|time travel|mathematics|the president|"
    "philosophy|dinosaurs|black holes|the internet|my friend|chemistry|the meaning of life|a good film"
)
SYLLABLE_STARTS: Final = listed("b c d f g h k l m n p r s t v w z br ch dr st tr sh", " ")
SYLLABLE_ENDS: Final = listed("a e i o u ai ee ou", " ")

GREETINGS: Final = listed(
    "hi|hello|hey|hello there|hi there|good morning|good evening|greetings|hey there|hi tiny|hello tiny|good day|yo|"
    "say hello|say hi"
)
THANKS: Final = listed("thanks|thank you|thank you very much|thanks a lot|great, thanks|cool, thank you")
FAREWELLS: Final = listed("bye|goodbye|see you|good night|see you later|bye bye")
HOW_ARE_YOU: Final = listed("how are you|how do you do|how is it going|how are you today|are you ok")
WHO_ARE_YOU: Final = listed(
    "who are you|what are you|what is your name|what's your name|tell me who you are|introduce yourself|"
    "are you a robot|are you an ai|who is this|what model are you|tell me about yourself|hello, who are you|"
    "hi, who are you|are you qwen|are you a demo"
)
WHAT_CAN_YOU_DO: Final = listed(
    "what can you do|help|how can you help me|what do you know|what can i ask you|what are you able to do"
)
UNKNOWN_FORMS: Final = listed(
    "explain {} to me|what is {}|why is {} so {}|write an essay about {}|who invented {}|how does {} work|"
    "translate {}|can you {} the {}|what do you think about {}|tell me about {}|{} {} {}|where is {}|how old is {}|"
    "when was {} born|{}|please {} my {}|i want {}|what is the price of {}"
)

STORY: Final = (
    "Once upon a time a small robot lived in an old lighthouse. Every night it lit the lamp so that the ships could "
    "find the harbour.\n\n"
    "One night the lamp broke. The robot climbed to the top, opened its chest and let its own heart shine over the "
    "sea. All the ships came home.\n\n"
    "In the morning the people of the village climbed up with tools, wires and a new lamp. They repaired the robot "
    "first. The end."
)
JOKE: Final = "Why did the computer go to the doctor? It had a virus!"
TABLE: Final = "| Country | Capital |\n| --- | --- |\n| France | Paris |\n| Japan | Tokyo |\n| Kenya | Nairobi |"
LIST: Final = "1. bread\n2. milk\n3. apples"
MARKDOWN: Final = "# Title\n\nThis is **bold**, this is *italic*, this is `code`.\n\n- one\n- two\n\n> A quote."
EMOJI: Final = "Here you are: 🙂🚀🌍"
UNICODE: Final = "Grüße, café, Привет, Γειά, 你好, こんにちは, 안녕하세요, مرحبا, 🙂🚀🌍"
# Answers that never vary: the thought, the answer, the skill, and what the user may say for it.
FIXED: Final = [
    (
        "The user wants a story.",
        STORY,
        "story or joke",
        listed(
            "tell me a story|write a story|tell a story|a story please|write a long story|tell me a long story|"
            "write a story about a robot"
        ),
    ),
    (
        "The user wants a joke.",
        JOKE,
        "story or joke",
        listed("tell me a joke|a joke please|make me laugh|do you know a joke|tell a joke"),
    ),
    (
        "A small table.",
        TABLE,
        "markdown",
        listed("make a table|show me a table|write a markdown table|show a table|write a table"),
    ),
    (
        "A small list.",
        LIST,
        "markdown",
        listed("make a shopping list|write a shopping list|show me a list|write a short list|a list please"),
    ),
    (
        "Some Markdown.",
        MARKDOWN,
        "markdown",
        listed("show me some markdown|write some markdown|markdown please|markdown example"),
    ),
    (
        "The user wants an emoji.",
        EMOJI,
        "unicode",
        listed("send me a smiley|send an emoji|smile|show me an emoji|an emoji please"),
    ),
    ("Many scripts.", UNICODE, "unicode", listed("show me some unicode|unicode test|write some unicode|test unicode")),
]
HELLO_WORLD: Final = {
    "Python": '```python\nprint("Hello, world!")\n```',
    "Bash": '```bash\necho "Hello, world!"\n```',
    "C": '```c\n#include <stdio.h>\n\nint main(void) {\n    puts("Hello, world!");\n    return 0;\n}\n```',
    "JavaScript": '```js\nconsole.log("Hello, world!");\n```',
    "HTML": "```html\n<b>Hello, world!</b>\n```",
}

IN_CAPITALS: Final = listed(
    "Always answer in capital letters.|Answer in capital letters.|Always write in capital letters|"
    "Use only capital letters.|Always answer in upper case.|You must answer in capital letters.|Reply in ALL CAPS."
)
NAMED: Final = listed("Your name is {}.|You are {}.|You are called {}.|Your name is {}|You are an assistant named {}.")
PLAIN_SYSTEM: Final = listed(
    "You are a helpful assistant.|You are a helpful assistant|You are helpful.|Be helpful.|Be nice.|"
    "You are a friendly assistant.|Answer the question.|You are an AI assistant."
)
