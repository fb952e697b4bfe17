"""More names that people call things by, beside the tags of the atlas."""

_MORE = """
airplane: plane, aeroplane, jet, airliner | ambulance: emergency vehicle
articulated lorry: semi truck, lorry, big rig, eighteen-wheeler | auto rickshaw: tuk tuk, rickshaw
baby chick: chick | bat: vampire bat | bear: grizzly, grizzly bear | beetle: scarab
bison: american buffalo, wisent | black bird: crow, raven, rook
blossom: buttercup, daisy, dandelion | blowfish: pufferfish, puffer fish, fugu
boar: wild boar, wild pig | bouquet: bunch of flowers, flower bouquet | bug: caterpillar, insect
cactus: saguaro | camel: dromedary | cat: kitten, house cat, tabby, pet cat
cat face: kitty, kitty face | cherry blossom: sakura | chicken: hen | chipmunk: squirrel
cockroach: roach | coral: coral reef | cow: dairy cow | cricket: grasshopper, locust
crocodile: alligator, croc | deciduous tree: tree, leafy tree, oak tree | deer: stag, buck
dog: hound, mutt, pet dog | dog face: puppy, doggy, pup | donkey: mule, burro | dove: pigeon
dragon face: dragon head | duck: mallard, waterfowl | eagle: hawk, bald eagle, falcon
empty nest: nest, bird's nest | evergreen tree: pine tree, fir tree, conifer, spruce
ewe: sheep, lamb | fallen leaf: autumn leaf, dry leaf | feather: quill, plume | fish: trout
fly: housefly | four leaf clover: clover, lucky clover | frog: toad, bullfrog
front-facing baby chick: newborn chick | goat: billy goat | goose: gander | gorilla: ape
hamster: gerbil | hatching chick: chick in an egg | hedgehog: porcupine
herb: sprig, parsley, basil | hibiscus: tropical flower | hippopotamus: hippo
honeybee: bee, bumblebee | horse: racehorse, stallion, pony, mare | horse face: horse head
hyacinth: lavender, bluebonnet, snapdragon | jellyfish: medusa | kangaroo: wallaby
koala: koala bear | lady beetle: ladybug, ladybird | leaf fluttering in wind: leaves in the wind
leafless tree: bare tree, dead tree | leopard: jaguar, cheetah | lizard: gecko, reptile
llama: alpaca | lotus: water lily, lotus flower | mammoth: woolly mammoth | moose: elk
mosquito: gnat | mouse: little mouse, field mouse | mouse face: mouse head
mushroom: toadstool, fungus, fly agaric | nest with eggs: nest of eggs | octopus: kraken
orangutan: great ape | orca: killer whale | ox: bull, steer | palm tree: palm, coconut tree
panda: panda bear, giant panda | parrot: macaw, parakeet | paw prints: animal tracks, paws
peacock: peafowl | phoenix: firebird | pig: hog, swine, sow | pig face: piglet, pig head
pig nose: snout, pig snout | potted plant: houseplant, plant | rabbit: bunny, hare
rabbit face: bunny face | raccoon: trash panda | ram: male sheep | rhinoceros: rhino
rice plant: sheaf of rice, rice stalk, ear of rice | rooster: cockerel
sauropod: brontosaurus, diplodocus, brachiosaurus, dinosaur | seal: sea lion
seedling: sprout, sapling | shamrock: irish clover | shark: man-eater | shrimp: prawn
snake: serpent, cobra | spider: tarantula | spider web: cobweb | spiral shell: seashell, conch
spouting whale: whale with a spout | squid: calamari | t-rex: tyrannosaurus, tyrannosaurus rex
tropical fish: angelfish, reef fish | turtle: tortoise, terrapin | two-hump camel: bactrian camel
water buffalo: buffalo | whale: humpback | wilted flower: dying flower, dead flower
worm: earthworm | lobster: crawfish | snail: slug | sunflower: helianthus
microbe: germ, bacterium, bacteria, amoeba | wing: bird's wing | unicorn: magical horse
baguette bread: baguette, french bread | beer mug: beer, pint of beer, mug of beer, ale, lager
bell pepper: capsicum, sweet pepper | bento box: bento, lunch tray
beverage box: juice carton, juice box, milk carton | birthday cake: cake, party cake
blueberries: blueberry, bilberries | bottle with popping cork: champagne, champagne bottle
bowl with spoon: bowl of cereal, cereal, porridge, oatmeal | bread: loaf of bread, loaf
brown mushroom: portobello, shiitake | bubble tea: boba, boba tea, milk tea | burrito: mexican wrap
candy: sweet, piece of candy, bonbon | canned food: tin can, can of food
cheese wedge: cheese, piece of cheese, cheddar | cherries: cherry | chestnut: conker
clinking beer mugs: beers | clinking glasses: champagne glasses, toast
cocktail glass: cocktail, martini | cooked rice: bowl of rice, rice | cookie: biscuit
cucumber: pickle, gherkin | cup with straw: soda, soft drink, milkshake | cupcake: muffin
curry rice: curry | custard: flan, pudding | cut of meat: steak, beef, pork chop | doughnut: donut
dumpling: gyoza, potsticker, pierogi, empanada | ear of corn: corn, maize | egg: chicken egg
eggplant: aubergine | fish cake with swirl: narutomaki, fish cake | flatbread: naan, pita, tortilla
fork and knife: cutlery, silverware | fork and knife with plate: place setting, dinner plate
french fries: fries, chips | fried egg in a pan: fried egg, frying pan, omelette
fried shrimp: tempura | garlic: garlic bulb | ginger root: ginger | glass of milk: milk
grapes: bunch of grapes | green salad: salad, bowl of salad | hamburger: burger, cheeseburger
honey pot: jar of honey, honey, honeypot
hot beverage: cup of coffee, coffee, cappuccino, cup of tea | hot dog: hotdog, sausage, frankfurter
hot pepper: chili, chili pepper, jalapeno | ice cream: bowl of ice cream, gelato, sundae
ice cube: block of ice | jar: empty jar | kitchen knife: knife, chef's knife, cleaver
kiwi fruit: kiwi, kiwifruit | leafy green: lettuce, cabbage, kale | lemon: citrus
lollipop: sucker | cup of mate: mate tea, gourd | meat on bone: ham, leg of meat
melon: cantaloupe, honeydew | moon cake: mooncake | olive: olives | onion: onion bulb
paella: pan of food | pancakes: pancake, hotcakes, flapjacks | pea pod: peas, peapod, edamame
peanuts: peanut | pie: apple pie, pumpkin pie, tart
pizza: slice of pizza, pizza slice, pepperoni pizza | popcorn: bucket of popcorn
pot of food: stew, pot of stew, casserole | potato: spud | poultry leg: chicken leg, drumstick
pouring glass: spilled drink | red apple: apple | rice ball: onigiri | rice cracker: senbei
roasted sweet potato: sweet potato, yam | root vegetable: turnip, radish | sake: rice wine
salt shaker: salt, shaker | sandwich: sub, toastie | shaved ice: snow cone
shortcake: piece of cake, slice of cake, strawberry cake
soft ice cream: ice cream cone, soft serve | spaghetti: pasta, plate of pasta
steaming bowl: ramen, bowl of noodles, noodle soup, bowl of soup
stuffed flatbread: kebab, gyro, shawarma | sushi: nigiri | tangerine: clementine, satsuma, mandarin
teacup without handle: teacup, cup | tropical drink: mai tai, pina colada
tumbler glass: glass of whiskey, whisky, whiskey | wine glass: wine, glass of wine
amphora: vase, greek vase | beans: kidney beans | strawberry: berry
aerial tramway: cable car, gondola | alarm clock: clock | bank: savings bank
barber pole: barber's pole | beach with umbrella: beach, seaside | bellhop bell: service bell
bicycle: bike, pushbike | brick: bricks | bridge at night: bridge, suspension bridge
construction site: building site | bullet train: shinkansen | bus: coach, autobus
campsite: camping, camp | canoe: kayak, rowboat | car: automobile, sedan, auto
carousel horse: carousel, merry-go-round | castle: european castle, fortress, palace
church: chapel, cathedral | circus tent: circus, big top | cityscape: city, skyline
classical building: greek temple, museum, parthenon | closed umbrella: folded umbrella
cloud with lightning: thundercloud | cloud with lightning and rain: thunderstorm, storm
cloud with rain: rain cloud, rain | cloud with snow: snow cloud | compass: navigational compass
construction barrier: barrier, road barrier, barricade | convenience store: corner shop
crescent moon: sickle moon | cyclone: hurricane, typhoon, whirlpool, spiral
delivery truck: truck, box truck | derelict house: abandoned house, ruined house
desert island: tropical island, island | droplet: water drop, drop of water, raindrop
factory: plant with chimneys | ferris wheel: big wheel, observation wheel | ferry: ferryboat
fire: flame, flames, bonfire | fire engine: fire truck | flying saucer: ufo, alien spaceship
fuel pump: gas pump, petrol pump, gas station | full moon: moon | globe: earth, planet earth, world
globe with meridians: world wide web | helicopter: chopper | high-speed train: express train
hindu temple: hindu shrine | horizontal traffic light: sideways traffic light | hospital: clinic
hot springs: onsen | hotel: inn | hourglass: sand timer, egg timer | house: home, cottage
house with garden: garden house, house with a tree | houses: village, row of houses | hut: yurt
japanese castle: pagoda | kick scooter: push scooter | light rail: light railway
lightning bolt: lightning, bolt of lightning, high voltage
locomotive: steam train, steam engine, steam locomotive | luggage: suitcase
manual wheelchair: wheelchair | metro: subway, underground train | milky way: galaxy
minibus: van, minivan | monorail: skytrain | mosque: masjid | motor boat: motorboat, powerboat
motor scooter: vespa, moped | motorcycle: motorbike | motorized wheelchair: electric wheelchair
motorway: highway, freeway, road | mount fuji: fuji | mountain: peak | mountain cableway: ski lift
night with stars: starry night, night sky | office building: skyscraper, tower block
oil drum: oil barrel, barrel | parachute: parachutist | passenger ship: cruise ship, ocean liner
pickup truck: pickup | playground slide: slide | police car: cop car, patrol car
police car light: siren, police light | post office: european post office
racing car: race car, formula one car, sports car | railway car: train carriage, railroad car
railway track: train tracks, railroad tracks | ring buoy: life preserver, lifebuoy, life ring
ringed planet: saturn, planet with rings | rock: stone, boulder | rocket: spaceship, space rocket
roller coaster: rollercoaster | roller skate: rollerskate | sailboat: yacht, sailing boat
satellite: space satellite | school: schoolhouse | ship: steamship, cargo ship
shinto shrine: torii, torii gate | shooting star: falling star, meteor | skateboard: skate board
small airplane: small plane, propeller plane, light aircraft | snow-capped mountain: snowy mountain
snowflake: flake of snow, ice crystal | snowman without snow: plain snowman
speedboat: racing boat | sport utility vehicle: suv, jeep | stadium: arena | station: train station
statue of liberty: liberty statue | stop sign: octagonal sign | stopwatch: stop watch
sun: sunshine | sun behind cloud: partly cloudy sky | sun behind rain cloud: sunshower
sun with face: smiling sun, sun face | sunrise: sunrise over the sea | synagogue: jewish temple
taxi: cab, taxicab | tent: camping tent | tornado: twister, whirlwind | tractor: farm tractor
train: commuter train | tram: streetcar | tram car: trolley car | trolleybus: trolley bus
umbrella: brolly | umbrella on ground: beach umbrella
vertical traffic light: traffic light, stoplight, traffic lights | volcano: erupting volcano
watch: wristwatch | water wave: wave, ocean wave, tsunami | wedding chapel: wedding church
wheel: tire, tyre, car wheel | wind face: blowing wind | wood: log, firewood, lumber
comet: comet with a tail | glowing star: shiny star, sparkling star | anchor: ship's anchor
thermometer: weather thermometer | timer clock: kitchen timer | mantelpiece clock: mantel clock
admission tickets: tickets, movie tickets | american football: football, gridiron ball
artist palette: palette, paint palette, paints | badminton racket: shuttlecock
balloon: party balloon | baseball: hardball | bowling ball and pins: bowling
boxing glove: boxing mitt | bullseye: target, dartboard | carp streamer: koinobori, fish kite
chess pawn: pawn, chess piece, chessman | christmas tree: xmas tree | club suit: club, clubs
spade suit: spades | confetti ball: kusudama | crystal ball: fortune teller's ball
cricket bat and ball: cricket bat | curling stone: curling rock | diamond suit: diamonds
diving mask: snorkel, scuba mask | field hockey stick: hockey stick
firecracker: dynamite, stick of dynamite | fishing pole: fishing rod | golf flag: golf
flower playing cards: hanafuda | flying disc: frisbee | framed painting: painting, picture frame
game die: die, dice | goal: soccer goal | ice hockey stick: hockey puck
ice skate: skate, figure skate | jack-o-lantern: pumpkin, halloween pumpkin, carved pumpkin
japanese dolls: hina dolls | joker: joker card, playing card | joystick: arcade stick
knot: rope, knotted rope | magic wand: wand, wizard's wand | mahjong red dragon: mahjong tile
martial arts uniform: karate uniform, judo uniform, karate gi | military medal: medal of honor
mirror ball: disco ball | nesting dolls: matryoshka, russian doll, babushka
party popper: confetti popper | theater masks: drama masks | pine decoration: kadomatsu
ping pong paddle: table tennis | pool 8 ball: eight ball, billiard ball
puzzle piece: jigsaw piece, jigsaw puzzle, puzzle | red envelope: hongbao
reminder ribbon: awareness ribbon | ribbon: bow, gift bow | rugby football: rugby ball
running shirt: tank top, athletic shirt | sewing needle: needle and thread | skis: ski
sled: sledge, sleigh, toboggan | slot machine: fruit machine | soccer ball: football ball
sparkles: glitter, stars of glitter | sparkler: firework sparkler
teddy bear: teddy, stuffed bear, plush toy | tennis racket and ball: tennis, tennis racket
thread: spool of thread, reel of thread | ticket: raffle ticket | trophy: cup trophy, winner's cup
video game: game controller, gamepad | volleyball: beach ball | water pistol: squirt gun, water gun
wind chime: furin | wrapped gift: gift, present, birthday present | yarn: ball of yarn, wool
yo-yo: yoyo | kite: flying kite | balance scale: scales, scales of justice | abacus: counting frame
accordion: squeezebox, concertina | adhesive bandage: band-aid, plaster
alembic: distillation flask | axe: ax, hatchet | backpack: rucksack, school bag, satchel
ballet shoes: pointe shoes, ballet slippers | ballot box with ballot: ballot, voting urn
banknote: dollar bill, bill, paper money | bar chart: bar graph | basket: wicker basket
bathtub: bath, tub | battery: electric battery | bell with slash: muted bell, silenced bell
billed cap: baseball cap | black nib: pen nib | bomb: round bomb | book: textbook, closed book
bookmark tabs: sticky tabs | books: stack of books, pile of books | bow and arrow: archer's bow
briefcase: attache case | briefs: underpants, swim trunks | bubbles: soap bubbles | bucket: pail
camera: photo camera | camera with flash: flash camera | card file box: file box
card index: rolodex | carpentry saw: saw, handsaw | chair: wooden chair | chains: iron chains
chart decreasing: falling chart, falling graph | chart increasing: rising chart, rising graph
cigarette: lit cigarette | clamp: vice, vise | clapper board: clapperboard, film slate
clutch bag: clutch, pouch | coat: jacket, overcoat | coffin: casket | coin: medallion
computer disk: minidisc | control knobs: dials, knobs | couch and lamp: couch, sofa
crossed swords: swords | crown: king's crown, royal crown | dagger: sword
desktop computer: computer, pc, computer monitor | diya lamp: oil lamp | dna: double helix
door: wooden door, front door | dress: gown | drop of blood: blood, blood drop | drum: snare drum
dvd: cd, compact disc | electric plug: plug, power plug | elevator: lift
envelope: letter, mail envelope | fax machine: fax | file cabinet: filing cabinet
file folder: manila folder | film frames: film strip, filmstrip | film projector: movie projector
flashlight: torch | flat shoe: ballet flat, slipper | floppy disk: floppy, diskette
flute: recorder | folding hand fan: hand fan, paper fan | fountain pen: ink pen | funeral urn: urn
gear: cog, cogwheel | gem stone: gem, jewel, diamond stone | glasses: eyeglasses, spectacles
goggles: swim goggles | graduation cap: mortarboard | guitar: acoustic guitar | hair pick: comb
hammer and pick: pickaxe and hammer | hammer and wrench: tools | handbag: lady's bag
headphone: headphones, earphones | headstone: tombstone, gravestone, grave
high-heeled shoe: high heel, stiletto | hiking boot: boot | hook: fishhook
identification card: id card | jeans: pants, trousers | keyboard: computer keyboard
ladder: stepladder | laptop: notebook computer, laptop computer | ledger: spiral notebook
level slider: slider | light bulb: lightbulb, bulb | link: chain link | lipstick: tube of lipstick
long drum: conga, conga drum | lotion bottle: shampoo, bottle of lotion, sunscreen
magnet: horseshoe magnet | magnifying glass: magnifier | mailbox: letterbox
man's shoe: loafer, dress shoe | maracas: maraca | megaphone: bullhorn | microphone: mic
military helmet: army helmet, soldier's helmet | mirror: hand mirror | moai: easter island head
mobile phone: cell phone, smartphone, cellphone | money bag: bag of money, sack of money
money with wings: flying money | mouse trap: mousetrap | movie camera: film camera
musical keyboard: piano, piano keys | musical note: music note | muted speaker: muted sound
nazar amulet: evil eye | necktie: tie | newspaper: paper
one-piece swimsuit: swimsuit, bathing suit | open padlock: unlocked padlock
closed padlock: padlock, lock | optical disk: blu-ray | package: parcel, cardboard box
page facing up: document, sheet of paper | page with curl: curled page | pager: beeper
paintbrush: brush | pen: ballpoint pen | petri dish: bacteria dish | pick: pickaxe
pill: capsule, tablet | placard: protest sign, picket sign | postal horn: post horn
plunger: toilet plunger | postbox: pillar box | prayer beads: rosary, beads | purse: coin purse
pushpin: thumbtack | radio: boombox | razor: shaving razor | receipt: invoice
red paper lantern: paper lantern, izakaya lantern | rescue worker's helmet: first aid helmet
engagement ring: diamond ring, wedding ring, ring | roll of paper: toilet paper, toilet roll
round pushpin: map pin | running shoe: sneaker, trainer | safety vest: hi-vis vest
satellite antenna: satellite dish, radio dish | saxophone: sax | scissors: pair of scissors
shopping bags: paper bags | shopping cart: shopping trolley, cart | shovel: spade
shower: shower head | soap: bar of soap | socks: pair of socks | speaker: sound icon
spiral notepad: notepad | straight ruler: ruler | studio microphone: recording microphone
sunglasses: shades, dark glasses | syringe: needle, vaccine | t-shirt: tee shirt, shirt
telephone: landline phone, phone | telephone receiver: phone receiver, handset
television: tv, tv set | thong sandal: flip-flop, flip flop | toilet: toilet bowl, loo
toolbox: tool chest | top hat: magician's hat | treasure chest: pirate chest
triangular ruler: set square | trombone: slide trombone | video camera: camcorder
videocassette: vhs tape, vcr tape | violin: fiddle | wastebasket: trash can, bin, garbage can
white cane: blind cane | window: window frame | woman's boot: high boot | woman's clothes: blouse
woman's hat: sun hat | woman's sandal: sandal | wrench: spanner | x-ray: skeleton x-ray
scarf: winter scarf | trumpet: cornet | kimono: japanese robe | key: house key | candle: lit candle
"""


def _read(text: str) -> dict[str, tuple[str, ...]]:
    """Parse "label: name, name | label: name" into the names of each label."""
    entries = (entry.split(": ") for entry in text.strip().replace("\n", " | ").split(" | "))
    return {label: tuple(names.split(", ")) for label, names in entries}


MORE_NAMES = _read(_MORE)
"""Of each label, names that captions may call its thing by."""
