"""Other names of the things, which a caption may use in place of the label.

They are chosen by reading from CLDR's keywords, with a few more of everyday English. CLDR's other
keywords say what a picture is used for ("food", "happy", "yum") and name nothing.
"""

ANIMALS = """
baby chick: chick; bear: grizzly; black bird: crow, raven, rook; blossom: buttercup, dandelion
blowfish: pufferfish; boar: wild pig; bouquet: bunch of flowers; bug: caterpillar; camel: dromedary
cat: feline; cat face: kitten, kitty; cherry blossom: sakura; chicken: hen; chipmunk: squirrel
cockroach: roach; coral: reef; cricket: grasshopper; dog face: puppy; donkey: mule; duck: mallard
empty nest: nest; evergreen tree: pine; ewe: sheep, lamb; fallen leaf: autumn leaf; fly: housefly
four leaf clover: lucky clover; goose: gander; hatching chick: chick in an eggshell
hippopotamus: hippo; honeybee: bee, bumblebee; horse: racehorse
hyacinth: lavender, lilac, lupine, bluebonnet; koala: koala bear; lady beetle: ladybug, ladybird
leaf fluttering in wind: leaf; leafless tree: bare tree, dead tree; llama: alpaca, guanaco
lotus: water lily; mammoth: woolly mammoth; microbe: amoeba, bacteria, virus, germ; moose: elk
mushroom: toadstool; orangutan: ape; orca: killer whale; ox: bull; oyster: pearl; palm tree: palm
panda: panda bear; paw prints: pawprints; peacock: peahen; phoenix: firebird; pig: sow
pig face: piglet; pig nose: snout; poodle: fluffy dog; potted plant: houseplant; rabbit face: bunny
ram: bighorn; rhinoceros: rhino; rooster: cockerel
sauropod: brontosaurus, brachiosaurus, diplodocus, dinosaur; seal: sea lion
seedling: sapling, sprout; service dog: assistance dog; shamrock: clover, trefoil; shrimp: prawn
snail: slug, escargot; snake: serpent; spider web: cobweb, web; spiral shell: seashell, conch
spouting whale: whale spouting water; swan: cygnet; t-rex: tyrannosaurus, tyrannosaurus rex
turkey: gobbler; turtle: tortoise, terrapin; two-hump camel: bactrian camel; water buffalo: buffalo
wilted flower: dying flower; worm: earthworm
"""

FOOD = """
amphora: jug; baby bottle: feeding bottle; baguette bread: baguette; beans: kidney beans
beer mug: beer, ale, pint, stein, lager; bell pepper: capsicum; bento box: bento
beverage box: juice box, juice; birthday cake: cake; blueberries: blueberry, bilberry
bottle with popping cork: champagne, champagne bottle
bowl with spoon: porridge, oatmeal, cereal, congee; bread: loaf, loaf of bread
brown mushroom: shiitake, portobello, truffle; bubble tea: boba, milk tea; candy: bonbon
canned food: tin can, can; cheese wedge: cheese; cherries: cherry; chocolate bar: chocolate
clinking beer mugs: two beers, beers; clinking glasses: champagne glasses
cocktail glass: martini, cocktail; cooked rice: rice, bowl of rice; cookie: biscuit
croissant: crescent roll; cucumber: pickle; cup of mate: mate, yerba mate
cup with straw: soda, soft drink; curry rice: curry; custard: pudding
cut of meat: steak, porkchop, lambchop; doughnut: donut
dumpling: pierogi, jiaozi, empanada, potsticker; ear of corn: corn, maize, corn on the cob
eggplant: aubergine; fish cake with swirl: narutomaki; flatbread: naan, pita, lavash
fork and knife: cutlery; fork and knife with plate: dinner plate; french fries: fries, chips
fried egg in a pan: fried egg; fried shrimp: tempura; ginger root: ginger; glass of milk: milk
grapes: bunch of grapes, grape; green salad: salad; hamburger: burger, cheeseburger
honey pot: honey, honey jar; hot beverage: coffee, tea, cup of coffee; hot dog: frankfurter, sausage
hot pepper: chili, chilli pepper; ice cube: ice; kitchen knife: knife; kiwi fruit: kiwi
leafy green: lettuce, kale, cabbage, bok choy; lollipop: lolly; meat on bone: meat
melon: cantaloupe; moon cake: mooncake; paella: casserole; pancakes: hotcakes, pancake
pea pod: peas, pea, edamame; peanuts: peanut; pie: slice of pie; pizza: pizza slice
pot of food: stew, pot; potato: spud; poultry leg: drumstick, chicken leg
pouring glass: spilling glass; red apple: apple; rice ball: onigiri; rice cracker: senbei
roasted sweet potato: sweet potato; root vegetable: beet, turnip, radish; salt shaker: salt
shaved ice: snow cone; shortcake: strawberry cake, slice of cake
soft ice cream: soft serve, ice cream cone; spaghetti: pasta; spoon: teaspoon
steaming bowl: ramen, noodles, noodle soup, pho; stuffed flatbread: kebab, gyro
takeout box: oyster pail; tangerine: mandarin, clementine, nectarine
teacup without handle: teacup, oolong; tropical drink: mai tai, tiki drink
tumbler glass: whiskey, whisky, scotch; wine glass: wine
"""

TRAVEL = """
aerial tramway: ropeway; airplane: plane, jet, aeroplane; airplane arrival: landing plane
airplane departure: plane taking off; articulated lorry: lorry, semi truck
auto rickshaw: rickshaw, tuk tuk; beach with umbrella: beach
bellhop bell: reception bell, service bell; bicycle: bike, cycle; brick: bricks
bridge at night: bridge; bullet train: shinkansen; bus stop: busstop; campsite: campground
car: sedan, motorcar; carousel horse: carousel, merry-go-round horse; cityscape: city
closed umbrella: folded umbrella; cloud with lightning: thundercloud
cloud with lightning and rain: thunderstorm; cloud with rain: rain cloud
cloud with snow: snow cloud; construction barrier: barricade, roadblock
construction site: building site; crescent moon: moon; cyclone: hurricane, typhoon
delivery truck: truck; derelict house: abandoned house, ruined house; desert island: island
droplet: drop, water drop; ferry: ferryboat; fire: flame, flames, campfire; fire engine: fire truck
flying saucer: ufo, alien spaceship; fuel pump: gas pump, petrol pump
globe: earth, planet earth, world; globe with meridians: wireframe globe; glowing star: shining star
half moon: quarter moon; helicopter: copter, chopper; hindu temple: mandir
horizontal traffic light: traffic light on its side; hourglass: sand timer, sandglass; house: home
hut: yurt, roundhouse; kaaba: mecca; kick scooter: push scooter; landslide: avalanche, mudslide
lightning bolt: lightning, thunderbolt; locomotive: steam train, steam engine
luggage: suitcase, trolley case; mantelpiece clock: mantel clock; manual wheelchair: wheelchair
map of japan: japan; metro: subway, underground train; milky way: galaxy; minibus: van, minivan
mosque: masjid; motor boat: motorboat; motor scooter: moped; motorcycle: motorbike
motorized wheelchair: electric wheelchair; motorway: highway, freeway; mount fuji: fuji
mountain cableway: cable car, gondola; mountain railway: mountain train
night with stars: starry night; office building: office block; oil drum: barrel, oil barrel
parachute: parasail; passenger ship: cruise ship, ocean liner; police car: cop car, patrol car
police car light: siren, emergency light; racing car: race car; railway car: train car, carriage
railway track: railroad, train tracks; ring buoy: lifebuoy, lifesaver; ringed planet: saturn, planet
rock: boulder, stone; rocket: spaceship, space rocket; roller coaster: rollercoaster
roller skate: rollerskate; sailboat: sailing boat, yacht; shinto shrine: torii, torii gate
shooting star: falling star; small airplane: small plane, propeller plane
snow-capped mountain: snowy mountain; snowman without snow: snowman with a hat
sport utility vehicle: suv, jeep; station: train station; stopwatch: chronometer; sun: sunshine
sun behind cloud: partly cloudy sky; sun with face: smiling sun
sunrise over mountains: mountain sunrise; suspension railway: hanging train; taxi: cab
timer clock: kitchen timer; tornado: whirlwind, twister; tram: streetcar; tram car: trolley
trolleybus: electric bus; umbrella on ground: beach umbrella
umbrella with rain drops: umbrella in the rain; vertical traffic light: traffic light, stoplight
volcano: erupting volcano; watch: wristwatch; water wave: wave, ocean wave
wedding chapel: chapel with a heart; wheel: tire, tyre; wind face: blowing cloud
wood: log, timber, lumber; world map: map of the world
"""

ACTIVITIES = """
admission tickets: tickets, admission ticket; artist palette: palette, paint palette
badminton racket: badminton, shuttlecock; bowling ball and pins: bowling, bowling ball, bowling pins
boxing glove: boxing gloves; bullseye: dartboard, target, dart; carp streamer: koinobori, carp flag
chess pawn: pawn, chess piece; christmas tree: xmas tree; club suit: clubs; confetti ball: kusudama
cricket bat and ball: cricket bat; curling stone: curling rock; diamond suit: card diamond
diving mask: snorkel, scuba mask; field hockey stick: field hockey, hockey stick
firecracker: dynamite; fishing pole: fishing rod; flower playing cards: hanafuda
flying disc: frisbee; framed painting: framed picture, painting, picture frame; game die: dice
goal: goal net, soccer goal; golf flag: golf hole; ice hockey stick: ice hockey, hockey stick
ice skate: skate, skates; jack-o-lantern: pumpkin, carved pumpkin; japanese dolls: hina dolls
joker: joker card, wildcard; joystick: arcade stick; lacrosse stick: lacrosse; magic wand: wand
mahjong red dragon: mahjong tile; martial arts uniform: karate uniform, judo uniform
mirror ball: disco ball; moon viewing ceremony: tsukimi
nesting dolls: matryoshka, babushka, russian dolls; party popper: confetti popper
pine decoration: kadomatsu; ping pong paddle: ping pong, table tennis
pool 8 ball: eight ball, billiard ball; puzzle piece: jigsaw, jigsaw piece; red envelope: hongbao
reminder ribbon: awareness ribbon; ribbon: bow; rugby football: rugby ball; running shirt: singlet
sewing needle: needle; skis: ski; sled: sledge, sleigh, toboggan; soccer ball: soccer
spade suit: spades; tanabata tree: wish tree; teddy bear: teddy, stuffed bear, plush bear
tennis racket and ball: tennis, tennis racket; theater masks: drama masks, performing arts
thread: spool, spool of thread; ticket: ticket stub; trophy: trophy cup
video game: game controller, gamepad; water pistol: squirt gun, water gun, toy gun
wind chime: chime; wrapped gift: gift, present; yarn: ball of yarn; yo-yo: yoyo
"""

OBJECTS = """
abacus: counting frame; accordion: concertina, squeezebox; adhesive bandage: bandage, plaster
alembic: distillation flask; axe: hatchet; backpack: rucksack, bookbag, satchel
balance scale: scales, scale; ballet shoes: ballet slippers; ballot box with ballot: ballot box
banknote: cash, bill, paper money; bar chart: bar graph; bathtub: bath, tub
bell with slash: muted bell; billed cap: baseball cap, cap; black nib: nib, pen nib; book: textbook
bookmark tabs: sticky tabs; books: stack of books, pile of books; bow and arrow: archery bow, bow
briefs: underpants, swim briefs; broken chain: snapped chain; broom: broomstick
bubbles: soap bubbles; bucket: pail; calendar: wall calendar; card file box: file box
carpentry saw: saw, handsaw; chains: chain; chart decreasing: falling graph
chart increasing: rising graph; clamp: vise, vice; clapper board: clapperboard
closed padlock: lock, padlock; clutch bag: clutch, pouch; coat: jacket; coffin: casket
computer disk: minidisc; couch and lamp: couch, sofa; credit card: bank card; crossed swords: swords
desktop computer: monitor, computer; diya lamp: oil lamp; dna: double helix
drop of blood: blood drop, blood; electric plug: plug, power plug; elevator: lift
envelope with arrow: outgoing mail; fax machine: fax; file cabinet: filing cabinet
file folder: folder; film frames: film strip; film projector: movie projector; flashlight: torch
flat shoe: slipper, ballet flat; floppy disk: floppy, diskette; flute: recorder, piccolo
folding hand fan: fan, hand fan; gear: cog, cogwheel; gem stone: gem, jewel, diamond
glasses: eyeglasses, spectacles; goggles: swimming goggles; graduation cap: mortarboard
hair pick: comb, afro comb; hamsa: hand of fatima; headphone: headphones, headset
headstone: gravestone, tombstone, grave; high-heeled shoe: high heel, stiletto; hiking boot: boot
identification card: id card; incoming envelope: incoming mail; jeans: pants, trousers, denim
keyboard: computer keyboard; label: tag, price tag; laptop: notebook computer
light bulb: bulb, lightbulb; link: chain link; linked paperclips: paperclips; long drum: conga
lotion bottle: lotion, sunscreen, shampoo; low battery: empty battery; magnifying glass: magnifier
mailbox: letterbox; megaphone: bullhorn; microphone: mic, karaoke microphone
military helmet: army helmet; moai: stone face, easter island statue, easter island head
mobile phone: cell phone, smartphone; money bag: moneybag, sack of money
money with wings: flying money; mouse trap: mousetrap; movie camera: film camera
musical keyboard: piano; musical note: quaver; muted speaker: silent speaker; nazar amulet: evil eye
necktie: tie; nut and bolt: bolt, nut; old key: skeleton key
one-piece swimsuit: swimsuit, bathing suit; open padlock: unlocked padlock
optical disk: cd, compact disc; package: parcel, cardboard box; page with curl: sheet of paper
pager: beeper; paintbrush: brush; pen: ballpoint, ballpoint pen; petri dish: culture dish
pick: pickaxe; pill: capsule, medicine; placard: picket sign, protest sign; postbox: pillar box
prayer beads: rosary, bead necklace; purse: coin purse, wallet; pushpin: thumbtack, drawing pin
receipt: invoice; red paper lantern: lantern, paper lantern; rescue worker's helmet: rescue helmet
engagement ring: wedding ring, gem ring; roll of paper: toilet paper, toilet roll
rolled-up newspaper: rolled newspaper; round pushpin: map pin; running shoe: sneaker, trainer
safety vest: vest, hi-vis vest; satellite antenna: satellite dish; saxophone: sax; scarf: shawl
scissors: shears; screwdriver: flathead screwdriver; scroll: parchment; shopping bags: paper bags
shopping cart: shopping trolley; shovel: spade; soap: bar of soap; socks: stockings, pair of socks
spiral calendar: desk calendar; spiral notepad: notepad; straight ruler: ruler
studio microphone: recording microphone; sunglasses: shades; syringe: injection
t-shirt: tshirt, shirt; telephone: landline; telephone receiver: handset; television: tv
thong sandal: flip flop, flip flops; toilet: lavatory; top hat: tophat
treasure chest: chest of gold; treble clef: musical score
triangular ruler: set square, triangle ruler; video camera: camcorder
videocassette: vhs, video tape; violin: fiddle; wastebasket: trash can, garbage can
window: window frame; woman's clothes: blouse; woman's hat: straw hat; woman's sandal: sandal
wrench: spanner; x-ray: x-ray of a hand, xray
"""

SMILEYS = """
alien: extraterrestrial; alien monster: space invader; angry face: mad face
angry face with horns: devil, demon, imp; anxious face with sweat: nervous face
astonished face: surprised face, shocked face; cat with tears of joy: laughing cat
clown face: clown; cold face: freezing face; confused face: puzzled face; cowboy hat face: cowboy
crying cat: sad cat; crying face: sad face with a tear; disappointed face: sad face
disguised face: spy face, fake moustache; dizzy star: spinning star
enraged face: rage face, furious face; exploding head: mind blown, blown mind
explosion: collision, boom; face blowing a kiss: kiss face; face rolling with laughter: rofl
face savoring food: yum face; face screaming in fear: screaming face, scream
face vomiting: vomiting face, puking face; face with head-bandage: injured face
face with medical mask: masked face; face with monocle: monocle; face with rolling eyes: eye roll
face with steam from nose: huffing face; face with symbols on mouth: cursing face, swearing face
face with tears of joy: laughing face, tears of joy; face with thermometer: sick face
face with tongue: tongue out; fearful face: scared face; flushed face: blushing face
frowning face: frown; ghost: spook, phantom; goblin: tengu; grimacing face: grimace
grinning face: grin, laughing smiley; hear-no-evil monkey: monkey covering its ears
hot face: sweating face; loudly crying face: sobbing face, bawling face; lying face: pinocchio, liar
money-mouth face: money face; nerd face: nerd, geek; ogre: oni; partying face: party face
pile of poo: poop, poo, turd; pleading face: puppy eyes, begging face; puff of smoke: cloud of dust
robot: android; see-no-evil monkey: monkey covering its eyes; shushing face: shush
skull and crossbones: crossbones; sleeping face: snoring face
smiling cat with heart-eyes: cat in love; smiling face: smiley
smiling face with halo: angel face, halo; smiling face with heart-eyes: heart eyes, love struck face
smiling face with sunglasses: cool face, cool smiley; smirking face: smirk; sneezing face: sneeze
speak-no-evil monkey: monkey covering its mouth; speech bubble: speech balloon, dialog bubble
star-struck face: starry eyes, star-struck; sweat droplets: water splash, splash
thought balloon: thought bubble; tired face: exhausted face; upside-down face: upside-down smiley
winking face: wink; woozy face: drunk face; yawning face: yawn; zany face: goofy face
zipper-mouth face: zipped mouth
"""

HEARTS = """
beating heart: heartbeat; broken heart: heartbreak; grey heart: gray heart
heart exclamation: heart exclamation mark; heart on fire: flaming heart
kiss mark: lipstick kiss, lips; love letter: valentine; mending heart: bandaged heart
sparkling heart: heart with sparkles; two hearts: pair of hearts
"""

PEOPLE = """
artist: painter; astronaut: spaceman, cosmonaut; baby: newborn, infant; baby angel: cherub
ballet dancer: ballerina; biting lip: bitten lip; bust in silhouette: silhouette; child: kid
clapping hands: applause; construction worker: builder; cook: chef; detective: sleuth, spy
ear with hearing aid: hearing aid; eyes: pair of eyes; factory worker: welder; fairy: pixie
farmer: gardener, rancher; firefighter: fireman; flexed biceps: biceps, muscle
folded hands: praying hands, prayer; footprints: footprint; genie: djinn; guard: royal guard
hairy creature: bigfoot, sasquatch, yeti; handshake: shaking hands; health worker: doctor, nurse
jockey on a horse: jockey, horse racing; mage: wizard, sorcerer, witch
mechanic: plumber, electrician; mechanical arm: robot arm, prosthetic arm
mechanical leg: prosthetic leg; nail polish: manicure; ninja: assassin
office worker: manager, businessperson; older person: elderly person
oncoming fist: fist bump, punch; people hugging: hug; people wrestling: wrestlers
person biking: cyclist, bicyclist; person bouncing ball: basketball player
person cartwheeling: gymnast; person climbing: climber; person facepalming: facepalm
person fencing: fencer; person getting haircut: haircut; person golfing: golfer
person in bed: sleeping person; person in lotus position: meditating person, yogi
person in steamy room: sauna; person juggling: juggler
person lifting weights: weightlifter, bodybuilder; person mountain biking: mountain biker
person playing handball: handball player; person playing water polo: water polo player
person rowing boat: rower; person running: runner; person shrugging: shrug; person surfing: surfer
person swimming: swimmer; person taking bath: bathing person; person walking: pedestrian, walker
person with beard: bearded person; person with blond hair: blond person; person with crown: monarch
person with red hair: redhead; person with veil: bride; pilot: aviator
police officer: policeman, cop; raised fist: clenched fist; santa claus: santa, father christmas
sign of the horns: rock on hand; singer: rockstar, rock star; speaking head: talking head
student: graduate; superhero: hero; supervillain: villain; teacher: professor
technologist: programmer, coder; tongue: tongue sticking out; vampire: dracula
victory hand: peace sign; vulcan salute: spock hand; waving hand: hand wave, goodbye hand
woman dancing: flamenco dancer; woman with headscarf: woman in a hijab; zombie: undead
"""
