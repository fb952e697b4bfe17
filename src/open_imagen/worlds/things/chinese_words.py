"""Everyday Chinese words for things, beside CLDR's names, and traditional characters."""

ANIMALS = """
kitten: 小猫, 猫咪, 小猫咪, 猫猫, 喵咪, 小奶猫; cat: 猫, 猫儿; puppy: 小狗, 小狗狗, 狗崽, 小奶狗
dog: 狗, 狗狗, 犬; rabbit: 兔子, 兔, 小白兔, 兔兔; bear: 熊, 狗熊, 棕熊
panda: 熊猫, 大熊猫, 小熊猫宝宝, 猫熊; polar bear: 北极熊, 白熊; mouse: 老鼠, 鼠
rat: 大老鼠, 耗子; hamster: 仓鼠; cow: 奶牛, 母牛, 牛, 乳牛; ox: 公牛, 黄牛; water buffalo: 水牛
bison: 野牛; horse: 马, 马儿, 骏马; zebra: 斑马; donkey: 驴, 驴子, 毛驴; pig: 猪, 肥猪; boar: 野猪
ewe: 羊, 绵羊, 母羊; goat: 山羊; ram: 公羊; llama: 羊驼, 草泥马; camel: 骆驼, 单峰骆驼
giraffe: 长颈鹿; elephant: 大象, 象; mammoth: 猛犸象, 猛犸; rhinoceros: 犀牛; hippopotamus: 河马
lion: 狮子, 狮, 雄狮; tiger: 老虎, 虎; leopard: 豹子, 豹, 猎豹, 花豹; wolf: 狼, 野狼, 灰狼
fox: 狐狸; raccoon: 浣熊; monkey: 猴子, 猴, 猴儿; gorilla: 大猩猩, 猩猩; orangutan: 红毛猩猩
kangaroo: 袋鼠; koala: 考拉, 树袋熊, 无尾熊; sloth: 树懒; hedgehog: 刺猬; chipmunk: 松鼠, 花栗鼠
beaver: 海狸, 河狸; otter: 水獭; skunk: 臭鼬; badger: 獾; bat: 蝙蝠; deer: 鹿, 梅花鹿
moose: 驼鹿, 麋鹿; unicorn: 独角兽; dragon: 龙, 中国龙, 飞龙; sauropod: 恐龙, 雷龙, 腕龙
t-rex: 霸王龙, 暴龙; phoenix: 凤凰, 火凤凰; dodo: 渡渡鸟; poodle: 贵宾犬, 贵宾狗, 泰迪狗
chicken: 鸡, 母鸡; rooster: 公鸡, 大公鸡; baby chick: 小鸡, 鸡仔, 雏鸡; turkey: 火鸡
duck: 鸭子, 鸭, 小黄鸭; goose: 鹅, 大白鹅; swan: 天鹅, 白天鹅; bird: 鸟, 鸟儿; black bird: 乌鸦
dove: 鸽子, 白鸽, 和平鸽, 鸽; eagle: 老鹰, 鹰, 雄鹰; owl: 猫头鹰; parrot: 鹦鹉; peacock: 孔雀
flamingo: 火烈鸟; penguin: 企鹅; fish: 鱼, 鱼儿, 金鱼; tropical fish: 热带鱼; blowfish: 河豚
shark: 鲨鱼, 大白鲨; dolphin: 海豚; whale: 鲸鱼, 鲸, 蓝鲸; orca: 虎鲸; seal: 海豹
octopus: 章鱼, 八爪鱼; squid: 鱿鱼, 乌贼, 墨鱼; jellyfish: 水母; crab: 螃蟹, 蟹, 大闸蟹
lobster: 龙虾, 小龙虾; shrimp: 虾, 大虾, 虾子; oyster: 牡蛎, 生蚝; coral: 珊瑚
spiral shell: 海螺, 贝壳, 海贝; frog: 青蛙, 蛙; crocodile: 鳄鱼; turtle: 乌龟, 龟, 海龟
lizard: 蜥蜴; snake: 蛇, 毒蛇; snail: 蜗牛; bug: 毛毛虫, 毛虫, 虫子; ant: 蚂蚁; honeybee: 蜜蜂
butterfly: 蝴蝶, 花蝴蝶; lady beetle: 瓢虫, 七星瓢虫; beetle: 甲虫, 甲壳虫; fly: 苍蝇
mosquito: 蚊子; cricket: 蟋蟀, 蛐蛐, 蚂蚱; cockroach: 蟑螂, 小强; spider: 蜘蛛
spider web: 蜘蛛网, 蛛网; scorpion: 蝎子; worm: 蚯蚓, 虫, 蠕虫; microbe: 细菌, 病毒; feather: 羽毛
paw prints: 爪印, 脚爪印, 猫爪印; tree: 树; deciduous tree: 绿树; evergreen tree: 松树, 杉树
palm tree: 棕榈树, 椰子树, 椰树; cactus: 仙人掌, 仙人球; blossom: 花, 花朵, 鲜花, 花儿, 蒲公英
rose: 玫瑰, 玫瑰花, 月季; tulip: 郁金香; sunflower: 向日葵, 太阳花; cherry blossom: 樱花树, 樱花
lotus: 莲花, 荷花; hibiscus: 芙蓉, 木槿; bouquet: 花束, 一束花, 捧花, 束花, 束鲜花
potted plant: 盆栽, 盆景, 盆花, 绿植; seedling: 幼苗, 小苗, 树苗, 嫩芽, 小芽; maple leaf: 枫叶
fallen leaf: 落叶; leaf fluttering in wind: 叶子, 树叶, 绿叶; herb: 药草, 香草, 小草, 草
four leaf clover: 四叶草; shamrock: 三叶草; mushroom: 蘑菇, 毒蘑菇, 红蘑菇; empty nest: 鸟巢, 鸟窝
"""

FOOD = """
apple: 苹果; red apple: 红苹果; green apple: 青苹果, 绿苹果; banana: 香蕉; pear: 梨, 梨子, 鸭梨
tangerine: 橘子, 桔子, 橙子, 柑橘; lemon: 柠檬; lime: 青柠, 青柠檬; peach: 桃子, 桃, 水蜜桃
mango: 芒果; grapes: 葡萄, 紫葡萄; strawberry: 草莓; cherries: 樱桃, 车厘子; blueberries: 蓝莓
melon: 甜瓜, 哈密瓜, 香瓜; watermelon: 西瓜; pineapple: 菠萝, 凤梨; kiwi fruit: 猕猴桃, 奇异果
coconut: 椰子; avocado: 牛油果, 鳄梨; olive: 橄榄; tomato: 番茄, 西红柿; carrot: 胡萝卜, 红萝卜
potato: 土豆, 马铃薯, 洋芋; eggplant: 茄子; cucumber: 黄瓜, 青瓜; ear of corn: 玉米, 苞米
hot pepper: 辣椒, 红辣椒; bell pepper: 灯笼椒, 青椒, 甜椒, 彩椒; broccoli: 西兰花, 花椰菜
leafy green: 青菜, 白菜, 生菜, 小白菜, 卷心菜; onion: 洋葱; garlic: 大蒜, 蒜
ginger root: 姜, 生姜; root vegetable: 萝卜, 甜菜
roasted sweet potato: 红薯, 烤红薯, 地瓜, 烤地瓜; pumpkin: 南瓜; peanuts: 花生
chestnut: 栗子, 板栗; beans: 豆子; pea pod: 豌豆, 毛豆; bread: 面包, 吐司
croissant: 可颂, 牛角包, 羊角面包, 牛角面包; baguette bread: 法棍, 长棍面包, 法棍面包; bagel: 贝果
pretzel: 椒盐卷饼; pancakes: 煎饼, 松饼, 薄煎饼; waffle: 华夫饼
cheese wedge: 奶酪, 芝士, 起司, 乳酪; butter: 黄油, 奶油; egg: 鸡蛋, 蛋
fried egg in a pan: 煎蛋, 荷包蛋, 煎鸡蛋; hamburger: 汉堡, 汉堡包; french fries: 薯条, 炸薯条
pizza: 披萨, 比萨, 比萨饼, 披萨饼, 片披萨; hot dog: 热狗, 香肠; sandwich: 三明治, 三文治
taco: 塔可, 墨西哥卷饼; burrito: 卷饼; spaghetti: 意大利面, 意面, 意粉
steaming bowl: 面条, 拉面, 碗面, 汤面 碗面条, 碗拉面, 泡面; curry rice: 咖喱饭, 咖喱; sushi: 寿司
rice ball: 饭团; cooked rice: 米饭, 白米饭, 白饭, 碗米饭, 碗饭; bento box: 便当, 盒饭, 便当盒
dumpling: 饺子, 水饺, 煎饺; moon cake: 月饼; dango: 团子, 糯米团子; fried shrimp: 天妇罗, 炸虾
meat on bone: 肉, 带骨肉; poultry leg: 鸡腿, 炸鸡腿, 炸鸡; cut of meat: 牛排, 牛肉, 排骨, 猪排
bacon: 培根; popcorn: 爆米花, 桶爆米花; salt shaker: 盐; canned food: 罐头
pot of food: 火锅, 一锅汤, 锅汤, 炖菜; green salad: 沙拉, 色拉, 蔬菜沙拉
ice cream: 冰淇淋, 冰激凌, 雪糕, 冰激淋, 杯冰淇淋
soft ice cream: 甜筒, 蛋筒, 蛋筒冰淇淋, 甜筒冰淇淋; shaved ice: 刨冰; doughnut: 甜甜圈, 多拿滋
cookie: 饼干, 曲奇, 曲奇饼干; birthday cake: 生日蛋糕, 蛋糕, 个蛋糕
shortcake: 块蛋糕, 草莓蛋糕, 块草莓蛋糕, 奶油蛋糕; cupcake: 纸杯蛋糕, 杯子蛋糕
pie: 派, 馅饼, 苹果派; chocolate bar: 巧克力, 块巧克力; candy: 糖果, 糖, 颗糖, 水果糖
lollipop: 棒棒糖; custard: 布丁, 焦糖布丁; honey pot: 蜂蜜, 蜂蜜罐, 罐蜂蜜
glass of milk: 牛奶, 杯牛奶, 一杯奶; baby bottle: 奶瓶
hot beverage: 咖啡, 杯咖啡, 杯热咖啡, 热咖啡, 咖啡杯; teapot: 茶壶
teacup without handle: 茶杯, 杯茶, 热茶, 杯热茶, 绿茶, 杯绿茶, 茶; cup: 杯子, 水杯
bubble tea: 奶茶, 珍珠奶茶, 杯奶茶, 杯珍珠奶茶; beverage box: 果汁, 盒果汁, 果汁盒
cup with straw: 饮料, 汽水, 可乐, 杯可乐, 杯饮料 杯汽水; beer mug: 啤酒, 杯啤酒, 扎啤
clinking beer mugs: 两杯啤酒; wine glass: 红酒, 葡萄酒, 杯红酒, 酒杯, 红酒杯, 杯葡萄酒
cocktail glass: 鸡尾酒, 杯鸡尾酒; tropical drink: 热带饮料
bottle with popping cork: 香槟, 瓶香槟, 香槟酒; sake: 清酒; whiskey: 威士忌
fork and knife: 刀叉, 餐具; spoon: 勺子, 汤匙, 调羹, 勺; kitchen knife: 菜刀, 刀, 厨刀, 刀子
chopsticks: 筷子, 双筷子; jar: 罐子, 玻璃罐; amphora: 陶罐, 花瓶; ice cube: 冰块, 冰
fork and knife with plate: 盘子, 餐盘; bowl with spoon: 碗, 粥, 碗粥; fish cake with swirl: 鱼板
"""

TRAVEL = """
car: 汽车, 车, 小汽车, 轿车, 车子, 小轿车, 私家车; taxi: 出租车, 的士, 计程车
bus: 公交车, 巴士, 大巴, 公车, 公共汽车, 校车, 大巴车; minibus: 面包车, 小巴, 中巴
police car: 警车; ambulance: 救护车; fire engine: 消防车, 救火车
delivery truck: 卡车, 货车, 小货车; articulated lorry: 大货车, 拖挂车; tractor: 拖拉机
racing car: 赛车, 跑车; sport utility vehicle: 越野车, 吉普车; pickup truck: 皮卡, 皮卡车
motorcycle: 摩托车, 摩托, 机车; motor scooter: 小摩托, 电动车, 电瓶车, 踏板车
bicycle: 自行车, 单车, 脚踏车; kick scooter: 滑板车; skateboard: 滑板; train: 火车, 列车
locomotive: 蒸汽火车, 火车头, 老火车, 蒸汽机车; high-speed train: 高铁, 动车
bullet train: 子弹头列车, 新干线; metro: 地铁; tram: 电车, 有轨电车; airplane: 飞机, 客机
small airplane: 小飞机, 螺旋桨飞机; helicopter: 直升机, 直升飞机; rocket: 火箭, 宇宙飞船, 太空飞船
flying saucer: 飞碟, ufo; satellite: 卫星, 人造卫星; sailboat: 帆船; ship: 船, 轮船, 大船
speedboat: 快艇; ferry: 渡轮, 渡船; passenger ship: 游轮, 邮轮, 客轮; canoe: 独木舟, 皮划艇
anchor: 锚, 船锚; parachute: 降落伞; house: 房子, 屋子, 房屋, 家
house with garden: 别墅, 花园洋房; hut: 小屋, 茅屋, 蒙古包
office building: 大楼, 办公楼, 写字楼, 高楼, 摩天大楼; school: 学校, 教学楼; hospital: 医院
bank: 银行; hotel: 酒店, 宾馆, 旅馆; convenience store: 便利店, 商店, 小店
department store: 商场, 百货商店; factory: 工厂; castle: 城堡, 古堡; church: 教堂; mosque: 清真寺
shinto shrine: 神社, 鸟居; classical building: 博物馆, 神殿
statue of liberty: 自由女神, 自由女神像; tokyo tower: 东京塔; bridge at night: 桥, 大桥
foggy bridge: 雾中的桥; fountain: 喷泉; tent: 帐篷; campsite: 露营, 露营地
circus tent: 马戏团, 马戏团帐篷; ferris wheel: 摩天轮; roller coaster: 过山车, 云霄飞车
carousel horse: 旋转木马, 木马; playground slide: 滑梯, 滑滑梯; mountain: 山, 高山
snow-capped mountain: 雪山; mount fuji: 富士山; volcano: 火山; desert: 沙漠
desert island: 海岛, 荒岛, 岛; beach with umbrella: 沙滩, 海滩; cityscape: 城市, 都市, 城市风景
night with stars: 星空, 夜空; sunrise: 日出; sunset: 日落, 夕阳; sun: 太阳
sun with face: 太阳公公, 微笑的太阳, 太阳脸; full moon: 月亮, 满月, 圆月, 月球
crescent moon: 弯月, 月牙, 弯弯的月亮, 新月; half moon: 半月
star: 星星, 五角星, 星, 星形, 五角星形; shooting star: 流星; comet: 彗星
ringed planet: 土星, 行星, 星球; globe: 地球, 地球仪; milky way: 银河, 星系
cloud: 云, 云朵, 白云, 云彩; cloud with rain: 雨云, 下雨的云, 雨; lightning bolt: 闪电
cloud with lightning: 雷电, 打雷的云; snowflake: 雪花; snowman without snow: 雪人; tornado: 龙卷风
rainbow: 彩虹; umbrella: 伞, 雨伞; umbrella with rain drops: 雨中的伞
umbrella on ground: 太阳伞, 遮阳伞, 沙滩伞; fire: 火, 火焰, 篝火; droplet: 水滴, 水珠
water wave: 海浪, 波浪, 浪花; vertical traffic light: 红绿灯, 交通灯, 信号灯
stop sign: 停止标志, 停车标志; construction barrier: 路障; fuel pump: 加油机, 加油站
wheel: 轮子, 车轮, 轮胎; alarm clock: 闹钟, 时钟, 钟; watch: 手表, 表; hourglass: 沙漏
stopwatch: 秒表; compass: 指南针, 罗盘; luggage: 行李箱, 箱子, 旅行箱; ring buoy: 救生圈, 游泳圈
rock: 石头, 岩石; wood: 木头, 木材, 原木; brick: 砖头, 砖, 砖块; thermometer: 温度计
world map: 世界地图, 地图; bus stop: 公交车站, 公交站; station: 车站, 火车站; railway track: 铁轨
"""

ACTIVITIES = """
balloon: 热气球, 气球; wrapped gift: 礼物, 礼品, 礼盒, 礼物盒, 生日礼物; christmas tree: 圣诞树
jack-o-lantern: 南瓜灯, 万圣节南瓜; fireworks: 烟花, 烟火, 焰火; firecracker: 鞭炮, 爆竹
red envelope: 红包; ribbon: 蝴蝶结, 丝带; party popper: 礼花, 派对礼花, 彩带; soccer ball: 足球
basketball: 篮球; volleyball: 排球; baseball: 棒球; tennis racket and ball: 网球, 网球拍
ping pong paddle: 乒乓球, 乒乓球拍; badminton racket: 羽毛球, 羽毛球拍
american football: 橄榄球, 美式橄榄球
bowling ball and pins: 保龄球; pool 8 ball: 台球, 桌球; boxing glove: 拳击手套; trophy: 奖杯
medal: 金牌, 银牌, 铜牌, 奖牌, 奖章
bullseye: 靶子, 靶心, 飞镖靶; kite: 风筝; yo-yo: 悠悠球, 溜溜球
teddy bear: 泰迪熊, 玩具熊, 毛绒熊, 小熊玩偶, 布偶熊; puzzle piece: 拼图, 拼图块
game die: 骰子, 色子; video game: 游戏机, 游戏手柄, 手柄; joystick: 摇杆; slot machine: 老虎机
magic wand: 魔法棒, 魔杖; crystal ball: 水晶球; nesting dolls: 套娃, 俄罗斯套娃
fishing pole: 鱼竿, 钓鱼竿; diving mask: 潜水镜; skis: 滑雪板; sled: 雪橇; ice skate: 冰鞋, 溜冰鞋
roller skate: 轮滑鞋, 旱冰鞋, 四轮滑冰鞋; artist palette: 调色板, 调色盘
framed painting: 画框, 油画, 挂画; theater masks: 面具; yarn: 毛线球, 毛线, 毛线团
thread: 线团, 线; sewing needle: 针, 缝衣针; knot: 绳子, 绳结; wind chime: 风铃
carp streamer: 鲤鱼旗; ticket: 票, 车票; admission tickets: 门票, 电影票, 入场券
flying disc: 飞盘; chess pawn: 国际象棋, 棋子; joker: 扑克牌, 扑克; mirror ball: 迪斯科球
water pistol: 水枪; goal: 球门; piñata: 彩罐; running shirt: 背心
"""

OBJECTS = """
mobile phone: 手机, 智能手机; telephone: 电话, 座机, 电话机; laptop: 笔记本电脑, 手提电脑
desktop computer: 电脑, 计算机, 台式电脑, 台式机; keyboard: 键盘; computer mouse: 鼠标
printer: 打印机; television: 电视, 电视机; camera: 相机, 照相机; video camera: 摄像机
movie camera: 电影摄影机; radio: 收音机; headphone: 耳机; microphone: 麦克风, 话筒
speaker: 扬声器, 音箱; loudspeaker: 喇叭; light bulb: 灯泡, 电灯泡; flashlight: 手电筒, 手电
candle: 蜡烛; red paper lantern: 灯笼, 红灯笼, 大红灯笼; battery: 电池; electric plug: 插头
magnifying glass: 放大镜; telescope: 望远镜, 天文望远镜; microscope: 显微镜; syringe: 注射器, 针筒
pill: 药丸, 药片, 胶囊; stethoscope: 听诊器; adhesive bandage: 创可贴; test tube: 试管
dna: dna, 双螺旋; magnet: 磁铁, 吸铁石; gear: 齿轮; hammer: 锤子, 榔头, 铁锤; wrench: 扳手
screwdriver: 螺丝刀, 起子; axe: 斧头, 斧子; carpentry saw: 锯子, 锯; pick: 镐, 铁镐
shovel: 铲子, 铁锹, 铲; toolbox: 工具箱; nut and bolt: 螺丝, 螺母, 螺栓; ladder: 梯子
bucket: 水桶, 桶; broom: 扫帚, 扫把; basket: 篮子, 筐; soap: 肥皂, 香皂; sponge: 海绵
toothbrush: 牙刷; roll of paper: 卷纸, 卫生纸; toilet: 马桶; shower: 淋浴, 花洒; bathtub: 浴缸
bed: 床; couch and lamp: 沙发; chair: 椅子, 凳子; door: 门, 大门; window: 窗户, 窗子, 窗
mirror: 镜子; key: 钥匙; old key: 老钥匙, 旧钥匙, 古老的钥匙; closed padlock: 锁, 挂锁
bell: 铃铛, 铃; book: 书, 书本, 本书; books: 一摞书, 摞书, 堆书
open book: 翻开的书, 打开的书, 打开的书本; notebook: 笔记本, 本子; newspaper: 报纸; pencil: 铅笔
pen: 笔, 圆珠笔; fountain pen: 钢笔; crayon: 蜡笔; paintbrush: 画笔, 毛笔, 刷子
straight ruler: 尺, 尺子, 直尺; triangular ruler: 三角尺; scissors: 剪刀, 把剪刀; paperclip: 回形针
pushpin: 图钉; envelope: 信封, 信, 信件; mailbox: 信箱, 邮箱; postbox: 邮筒
package: 包裹, 纸箱, 快递; calendar: 日历; bookmark: 书签; file folder: 文件夹
chart increasing: 上涨曲线; bar chart: 柱状图, 条形图; briefcase: 公文包
wastebasket: 垃圾桶, 废纸篓; abacus: 算盘; money bag: 钱袋; coin: 硬币, 金币
banknote: 钞票, 纸币, 钱; credit card: 信用卡, 银行卡; gem stone: 宝石, 钻石; crown: 皇冠, 王冠
engagement ring: 戒指, 钻戒, 指环; lipstick: 口红, 唇膏; purse: 钱包; handbag: 手提包, 包包
backpack: 书包, 背包, 双肩包; shopping bags: 购物袋; shopping cart: 购物车; glasses: 眼镜, 副眼镜
sunglasses: 墨镜, 太阳镜, 太阳眼镜; necktie: 领带; t-shirt: t恤, 衬衫, t恤衫; jeans: 牛仔裤, 裤子
dress: 裙子, 连衣裙; coat: 外套, 大衣, 夹克; scarf: 围巾; gloves: 手套; socks: 袜子
bikini: 比基尼; shorts: 短裤; kimono: 和服; running shoe: 运动鞋, 跑鞋, 球鞋
man's shoe: 皮鞋, 鞋, 鞋子
high-heeled shoe: 高跟鞋; woman's boot: 靴子, 女靴; woman's sandal: 凉鞋
thong sandal: 人字拖, 拖鞋; ballet shoes: 芭蕾舞鞋; woman's hat: 草帽, 帽子, 女帽
top hat: 礼帽, 高帽; billed cap: 鸭舌帽, 棒球帽; graduation cap: 学士帽, 毕业帽, 博士帽
rescue worker's helmet: 头盔, 安全帽; guitar: 吉他; violin: 小提琴
musical keyboard: 钢琴, 琴键, 电子琴; drum: 鼓; trumpet: 小号, 号角; saxophone: 萨克斯
flute: 笛子, 长笛; accordion: 手风琴; harp: 竖琴; musical note: 音符; musical notes: 音乐符号
bomb: 炸弹; dagger: 匕首, 剑, 短剑, 宝剑; crossed swords: 双剑, 交叉的剑; bow and arrow: 弓箭, 弓
shield: 盾牌, 盾; boomerang: 回旋镖; chains: 链条, 锁链, 铁链; hook: 钩子, 鱼钩; coffin: 棺材
headstone: 墓碑; cigarette: 香烟, 烟; elevator: 电梯; fire extinguisher: 灭火器; razor: 剃须刀
safety pin: 别针; bubbles: 泡泡, 肥皂泡; mouse trap: 捕鼠夹, 老鼠夹
treasure chest: 宝箱, 宝藏, 藏宝箱; scroll: 卷轴; balance scale: 天平, 秤; teddy: 泰迪
identification card: 身份证; memo: 便签; trackball: 轨迹球; hammer and wrench: 工具
satellite antenna: 天线, 卫星天线; floppy disk: 软盘; optical disk: 光盘, 光碟
film frames: 胶卷, 胶片; clapper board: 场记板
"""

PEOPLE = """
baby: 婴儿, 宝宝, 小宝宝, 小婴儿, 小宝贝; child: 小孩, 孩子, 儿童, 小朋友
boy: 男孩, 小男孩, 男孩子, 小伙子; girl: 女孩, 小女孩, 女孩子, 小姑娘, 姑娘; person: 人, 人物
man: 爸爸, 爸, 叔叔, 男人, 男士, 男子; woman: 妈妈, 妈, 阿姨, 女人, 女士, 女子
older person: 老人, 老年人
older man: 老爷爷, 爷爷; older woman: 老奶奶, 奶奶; health worker: 医生, 大夫, 护士
teacher: 老师, 教师; student: 学生, 小学生, 大学生; police officer: 警察, 警官
firefighter: 消防员; cook: 厨师, 大厨; farmer: 农民, 农夫; scientist: 科学家; artist: 画家, 艺术家
singer: 歌手; pilot: 飞行员; astronaut: 宇航员, 航天员, 太空人; technologist: 程序员, 码农
judge: 法官; detective: 侦探; ninja: 忍者; construction worker: 建筑工人; mechanic: 修理工, 技工
prince: 王子; princess: 公主, 小公主; santa claus: 圣诞老人; superhero: 超人, 超级英雄, 英雄
mage: 巫师, 魔法师, 法师; fairy: 仙女, 小仙女; vampire: 吸血鬼; mermaid: 美人鱼; merperson: 人鱼
elf: 精灵, 小精灵; zombie: 僵尸, 丧尸; woman with veil: 新娘; person in tuxedo: 新郎
ballet dancer: 芭蕾舞者; woman dancing: 跳舞的女人; people holding hands: 手牵手的人
robot: 机器人; ghost: 鬼, 幽灵, 小幽灵, 小鬼; alien: 外星人; skull: 骷髅, 头骨, 骷髅头
clown face: 小丑; pile of poo: 便便, 大便, 屎; angry face with horns: 恶魔, 魔鬼
smiling face: 笑脸, 微笑的脸, 微笑, 笑脸表情; crying face: 哭脸, 哭泣的脸
angry face: 生气的脸, 愤怒的脸; winking face: 眨眼的脸; face with tears of joy: 笑哭, 笑哭的脸
sleeping face: 睡着的脸, 睡觉的脸; smiling face with sunglasses: 戴墨镜的笑脸, 酷酷的笑脸
thinking face: 思考的脸, 思考; fearful face: 害怕的脸; eyes: 双眼睛; eye: 眼睛, 只眼睛; ear: 耳朵
nose: 鼻子; mouth: 嘴巴, 嘴; tongue: 舌头; tooth: 牙齿, 牙; brain: 大脑, 脑子; bone: 骨头
foot: 脚; leg: 腿; thumbs up: 点赞, 大拇指, 竖大拇指, 点赞的手; clapping hands: 鼓掌
handshake: 握手; flexed biceps: 肌肉; footprints: 脚印; victory hand: 剪刀手
red heart: 红心, 爱心, 心, 红色的心, 红色爱心; green heart: 绿心, 绿色的心, 绿色爱心
yellow heart: 黄心, 黄色的心, 黄色爱心; broken heart: 心碎, 破碎的心, 碎心
orange heart: 橙心, 橙色的心; black heart: 黑心, 黑色的心; white heart: 白心, 白色的心
pink heart: 粉色的心, 粉色爱心, 粉心, 粉红色的心; heart with arrow: 一箭穿心; love letter: 情书
kiss mark: 唇印; explosion: 爆炸; speech bubble: 对话框, 气泡框, 对话气泡
thought balloon: 思考气泡; monkey face: 猴脸; cat face: 猫脸, 猫头; dog face: 狗脸, 狗头
baby angel: 天使, 小天使; man with crown: 国王; woman with crown: 女王, 王后
"""

SHAPES = """
circle: 圆, 圆形, 圆圈, 圆点, 圆球, 圆盘; square: 方块, 正方形, 方形, 四方形
triangle: 三角形, 三角; ring: 圆环, 环, 环形; cross: 叉, 叉叉, 十字, 十字形, 十字架
heart: 心形, 爱心形状; diamond: 菱形
hexagon: 六边形, 六角形; crescent: 月牙形, 新月形
"""

TABLES = (ANIMALS, FOOD, TRAVEL, ACTIVITIES, OBJECTS, PEOPLE, SHAPES)

TRADITIONAL = """
個个 隻只 條条 張张 輛辆 頭头 顆颗 塊块 雙双 對对 藍蓝 綠绿 黃黄 紅红 銀银 兩两 畫画 請请 給给
幫帮 圖图 貓猫 馬马 鳥鸟 魚鱼 龍龙 雞鸡 鴨鸭 鵝鹅 豬猪 獅狮 貝贝 蝦虾 鯨鲸 鯊鲨 龜龟 蝸蜗 螞蚂
蟻蚁 蒼苍 蠅蝇 蟲虫 蠶蚕 樹树 葉叶 蘭兰 蓮莲 車车 飛飞 機机 電电 腦脑 視视 話话 書书 筆笔 紙纸
燈灯 門门 風风 雲云 氣气 陽阳 長长 頸颈 與与 於于 邊边 側侧 間间 裡里 裏里 後后 國国 園园 圓圆
鐘钟 鈴铃 錶表 鏡镜 鑰钥 鎖锁 錢钱 幣币 釘钉 鉤钩 鐵铁 鋼钢 錘锤 鋸锯 鍋锅 鍵键 盤盘 顯显 遠远
發发 髮发 貨货 員员 師师 學学 醫医 護护 農农 廚厨 隊队 腳脚 臉脸 鬍胡 鬚须 殭僵 屍尸 聖圣 誕诞
節节 禮礼 燭烛 煙烟 籠笼 麵面 餅饼 餃饺 飯饭 糰团 團团 湯汤 蘋苹 檸柠 蘿萝 蔔卜 蔥葱 薑姜 腸肠
漢汉 凍冻 凱凯 顏颜 寶宝 嬰婴 兒儿 孫孙 爺爷 紳绅 畢毕 業业 場场 廠厂 館馆 樓楼 橋桥 島岛 灘滩
湧涌 災灾 點点 無无 沒没 體体 樣样 設设 計计 寫写 標标 誌志 說说 語语 讓让 這这 還还 為为 從从
來来 時时 會会 們们 見见 覺觉 觀观 現现 應应 該该 樂乐 聲声 響响 號号 彈弹 劍剑 槍枪 戰战 軍军
輪轮 艦舰 鳳凤 獨独 獸兽 貍狸 鱷鳄 駱骆 駝驼 驢驴 騾骡 騎骑 駕驾 驚惊 馴驯 蠍蝎 鷹鹰 鴿鸽 鸚鹦
鵡鹉 鴉鸦 鶴鹤 鳩鸠 烏乌 鵪鹌 鰻鳗 鯉鲤 鮭鲑 魷鱿 蝟猬 猶犹 獺獭 貴贵 賓宾 費费 買买 賣卖 購购
貼贴 質质 賽赛 跡迹 蹤踪 鞦秋 韆千 褲裤 襪袜 襯衬 項项 鏈链 鍊链 鑽钻 鑼锣 絲丝 線线 繩绳 織织
結结 絨绒 級级 紐纽 約约 緣缘 組组 細细 經经 繽缤 紛纷 續续 總总 網网 維维 綴缀 縫缝 縮缩 繪绘
練练 顔颜 題题 頂顶 頁页 順顺 須须 領领 額额 類类 願愿 顛颠 廣广 廟庙 龐庞 廳厅 慶庆 憂忧 懷怀
態态 憤愤 懶懒 戀恋 愛爱 惡恶 擊击 擁拥 擇择 擺摆 攝摄 攜携 撲扑 揮挥 換换 損损 搖摇 據据 報报
幹干 乾干 幾几 開开 關关 閃闪 閉闭 問问 聞闻 陰阴 陸陆 階阶 隨随 險险 隱隐 雜杂 難难 離离 靈灵
靜静 頻频 養养 饅馒 東东 倫伦 備备 傘伞 傷伤 價价 優优 億亿 儀仪 僅仅 傳传 債债 內内 冊册 剛刚
創创 劃划 劇剧 動动 勵励 勝胜 區区 協协 單单 喚唤 嗎吗 噴喷 嚇吓 囑嘱 圍围 堅坚 執执 塵尘 壞坏
壓压 壯壮 壺壶 夢梦 夾夹 奪夺 獎奖 婦妇 媽妈 嬌娇 實实 寧宁 導导 將将 專专 尋寻 層层 屬属 歲岁
嶺岭 嶼屿 帥帅 帶带 幀帧 強强 彎弯 徑径 復复 徵征 戲戏 戶户 拋抛 捲卷 掃扫 採采 揀拣 斷断 曬晒
晝昼 暈晕 曆历 歷历 術术 殺杀 殼壳 氈毡 決决 沖冲 況况 洩泄 溫温 滅灭 滾滚 滿满 漁渔 潔洁 潛潜
濕湿 灣湾 爐炉 爾尔 牆墙 狀状 猻狲 環环 瑪玛 產产 異异 療疗 瘋疯 癢痒 皺皱 盜盗 監监 盧卢 睜睁
礙碍 礦矿 祕秘 種种 稱称 穀谷 積积 穩稳 窩窝 竊窃 競竞 籃篮 簡简 簽签 籤签 糞粪 糧粮 紀纪 純纯
納纳 紗纱 終终 綿绵 緊紧 緞缎 羅罗 習习 聰聪 聯联 職职 聽听 膚肤 膠胶 膽胆 臟脏 臘腊 臺台 颱台
舊旧 艙舱 莖茎 莊庄 華华 萬万 蓋盖 薩萨 藥药 藝艺 蘆芦 虛虚 處处 蛻蜕 蜆蚬 蝕蚀 蠟蜡 衆众 衝冲
補补 裝装 製制 複复 規规 親亲 訊讯 記记 許许 訓训 診诊 評评 詞词 試试 詩诗 詭诡 誠诚 誰谁 課课
調调 談谈 論论 諜谍 謝谢 證证 識识 譯译 議议 變变 豎竖 豐丰 賞赏 賀贺 贈赠 趕赶 趨趋 軌轨 軟软
軸轴 載载 輕轻 較较 輔辅 輝辉 輻辐 轉转 轎轿 辦办 迴回 連连 進进 運运 過过 達达 違违 遙遥 遞递
適适 選选 遺遗 邏逻 郵邮 鄉乡 釀酿 釋释 針针 釣钓 鈔钞 鉛铅 銅铜 錄录 錯错 鎚锤 鎮镇 鐲镯 鑄铸
閣阁 闆板 闊阔 陣阵 陳陈 雖虽 霧雾 韓韩 韻韵 頌颂 預预 顧顾 飄飘 飲饮 飽饱 餓饿 駛驶 駐驻 騙骗
鬆松 鬥斗 鬧闹 鮮鲜 鯰鲶 麗丽 麥麦 黏粘 黨党 齊齐 齒齿 齡龄 龕龛 盃杯 檯台 櫻樱 檳槟 欄栏 權权
樁桩 橢椭 槳桨 構构 槓杠 櫃柜 櫥橱 歡欢 毀毁 燒烧 燙烫 爛烂 營营 熱热 煉炼 韌韧 蝨虱 鍾钟 臥卧
"""
"""Traditional characters and their simplified forms, side by side."""
