"""Plain word lists that the fillers draw from."""


def _words(text: str) -> list[str]:
    return text.split()


NAMES = _words("""
Ada Alan Alice Amir Ana Andre Anna Aria Ben Bianca Boris Bruno Carla Carlos Cleo Clara Dana
Daniel David Diana Diego Dora Edith Elena Eli Ella Emil Emma Enzo Eric Erin Eva Felix Fiona
Frank Freya Gina Grace Greta Hana Hans Hugo Ida Igor Ines Iris Isaac Ivan Jack Jana Jane Jim
Joel Jonas Julia June Kai Karl Kate Kenji Lara Lars Laura Lena Leo Lily Linus Lisa Lola Luca
Lucy Luis Maria Mark Marta Maya Mia Mike Mila Mina Nadia Nils Nina Noah Nora Olga Oscar Otto
Paul Pavel Petra Peter Quinn Rita Robin Rosa Rosie Ruth Sam Sara Simon Sofia Sven Tara Theo Tim
Tina Tom Uma Vera Victor Wanda Wendy Will Xena Yara Yuki Zoe Zara
""")

WORDS = _words("""
acorn actor anchor angle apple arrow autumn bacon badge bag banana banjo barn basket bath beach
bean bell belt bench berry bird blanket boat bone book boot bottle bowl box branch bread brick
bridge broom brush bucket butter button cabin cake camel camp candle canoe carpet carrot castle
chain chair chalk cheese cherry clock cloud coat coffee coin comb copper corn cotton crown cup
curtain daisy desk diamond dish door drum dust eagle ear earth echo egg elbow engine envelope
falcon farm feather fence fern field fig finger fire fish flag flame flower flute forest fork
fox frog fruit garden garlic gate ghost giant glass glove goat gold goose grape grass guitar
hammer harbor harp hat hawk hill honey hook horn horse house ice igloo ink iron island ivory
jacket jam jar jewel juice jungle kettle key king kite knee knife ladder lake lamp leaf lemon
letter lily lion lizard lock log magnet map maple marble market mask meadow melon milk mint
mirror moon mountain mouse mud mushroom nail napkin needle nest net night nose nut oak ocean
olive onion orange orchid oven owl page paint palm pan paper parrot path peach pear pearl pen
pencil pepper piano pillow pine pipe planet plate plum pocket pond potato prince queen quill
quilt rabbit radio rain ribbon rice ring river road robot rock roof rope rose sail salt sand saw
scarf school seed shadow sheep shell ship shirt shoe silk silver sky snow soap sofa spoon spring
star stone stool storm straw street sugar summer sun swan table tail tea tent thorn thread tiger
toast tower toy train tree trumpet tulip tunnel turtle umbrella uncle valley van vase vest
village vine violet violin wagon walnut wall wand water wave wheat wheel whistle willow wind
window wing winter wolf wood wool yard yarn yogurt zebra zipper
""")

CITIES = _words("""
Amsterdam Ankara Athens Bangkok Barcelona Basel Beijing Berlin Bern Bologna Boston Brussels
Budapest Cairo Chicago Cologne Dakar Dallas Delhi Denver Dublin Florence Geneva Genoa Ghent
Hamburg Hanoi Havana Helsinki Istanbul Jakarta Kyiv Kyoto Lagos Leeds Lima Lisbon London Lyon
Madrid Malaga Manila Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples Nice Osaka Oslo
Oxford Palermo Paris Porto Prague Quito Riga Rome Salzburg Santiago Seattle Seoul Seville Sofia
Stockholm Sydney Tallinn Tokyo Toronto Tunis Turin Utrecht Valencia Venice Verona Vienna Vilnius
Warsaw York Zagreb Zurich
""")

COLOURS = _words("""
red blue green yellow orange purple pink brown black white grey gold silver violet turquoise
crimson teal navy indigo lime olive maroon beige cyan magenta amber ivory coral scarlet bronze
""")

PETS = _words("""
cat dog hamster parrot rabbit turtle goldfish pony lizard ferret canary mouse gecko hedgehog
snake goat duck chicken donkey pigeon spider frog llama horse kitten puppy
""")

# Made-up words must not be any of these: the lists are split on their own.
LISTED = {word.lower() for word in NAMES + WORDS + CITIES + COLOURS + PETS}
