"""English words that name no thing: what prompts are made of beside the names of things."""

from open_imagen.worlds.things.grammar import words

FUNCTION = words(
    """
    a an the this that these those some any each every both all no not none only just also too very
    and or but nor so yet if then than as because while when where which who whom whose what how why
    i you he she it we they me him her us them my your his its our their mine yours myself itself
    is are was were be been being am do does did doing done has have had having can could will would
    shall should may might must let lets get gets got make makes made making there here
    of in on at to from by for with without within into onto upon over under above below beneath
    underneath beside besides between behind before after around across along through about against
    near next inside outside beyond toward towards off out up down away back front opposite among
    left right top bottom middle center centre side sides corner edge upper lower leftmost rightmost
    please thanks thank draw drawing drawn paint painted painting show shows showing shown depict
    depicts depicting depicted featuring featured containing contains contain including includes
    render rendered rendering generate create created creating want wants need like likes looks
    looking look see seen picture image photo photograph illustration sketch cartoon emoji sticker
    icon clipart logo poster art artwork design scene view style styled styles version background
    backdrop ground transparent plain blank color colour colors colours colored coloured two-tone
    tone toned half solid pattern word words text letter letters letters saying says say said reads
    reading read written write writes labeled labelled named called titled sign signs
    zero one two three four five six seven eight nine ten eleven twelve dozen pair couple several
    many few more most less least lots much couple single double another other same different
    first second third last group bunch row set kind type sort number piece bit part
    end ends shape shapes shaped form pile heap stack way line lines size kinds thing things time
    """
)
QUALITIES = words(
    """
    red orange yellow green blue purple pink brown black white gray grey gold golden silver violet
    cyan magenta teal turquoise navy crimson scarlet beige maroon indigo lime rainbow multicolored
    colorful colourful bright dark light pale deep vivid pastel neon monochrome shiny glossy matte
    flat drawn old old-style old-fashioned vintage retro new modern 3d 2d realistic photorealistic
    small smaller smallest little tiny miniature mini large larger largest big bigger biggest huge
    giant gigantic enormous massive tall taller short shorter long longer wide narrow thick thin fat
    skinny round square circular triangular oval rectangular curved straight sharp pointy smooth
    rough soft hard hot cold warm cool wet dry clean dirty fresh ripe rotten raw cooked fried baked
    open opened closed empty full broken whole sliced cute adorable funny silly scary spooky evil
    happy sad angry smiling crying laughing sleeping sleepy tired excited surprised scared grumpy
    friendly beautiful pretty lovely nice good bad great perfect simple detailed complex minimal
    minimalist abstract elegant fancy delicious tasty yummy sweet sour spicy juicy fluffy furry
    hairy spotted striped dotted checkered wooden metal metallic plastic glass paper stone leather
    cotton
    ceramic rubber young baby adult male female strong weak fast slow quick lazy high low heavy
    real fake magic magical mystical ancient medieval futuristic cyberpunk cinematic isolated wild
    male female light-skinned dark-skinned medium-skinned medium-light medium-dark skinned skin
    medium american english french german italian spanish chinese japanese korean indian african
    european hair haired veil beard turban mrs mr classic famous strange weird unusual favorite
    special christmas halloween birthday
    """
)
ACTIONS = words(
    """
    sit sits sitting stand stands standing lie lies lying laying run runs running walk walks walking
    jump jumps jumping jumped leap leaps leaping fly flies flying swim swims swimming eat eats
    eating drink drinks drinking hold holds holding carry carries carrying wear wears wearing ride
    rides
    riding drive drives driving play plays playing sleep sleeps dance dances dancing sing sings
    singing float floats floating hang hangs hanging hide hides hiding chase chases chasing catch
    catching throw throwing kick kicking climb climbs climbing fall falls falling rise rises rising
    grow grows growing shine shines shining glow glows glowing burn burns burning smile smiles laugh
    cry look watch watches watching stare stares staring point points pointing wave waves waving hug
    hugs hugging kiss kisses fight fights fighting work works working cook cooks cooking cut cuts
    cutting put puts placed placing place lays rest rests resting wait waiting talk talking hit hits
    hitting push pushing pull pulling give giving take taking go goes going come comes coming turn
    turned turning surrounded covered filled decorated topped stacked floating balanced balancing
    """
)
OTHERS = FUNCTION | QUALITIES | ACTIONS
"""Words that no hint calls unknown."""
