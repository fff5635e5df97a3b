//! Describes a scene with captions from a small grammar.
//!
//! ```text
//! caption  = [opening] objects [place]  |  place verb objects
//! objects  = thing relation landmark    |  landmark relation thing   (with the relation inverted)
//! thing    = article [small] [pattern] [colour] (shape | "thing")
//! landmark = article [big] [colour] (shape | "thing")
//! place    = [ground] [sky]             |  [sky] [ground]
//! ```
//!
//! Each of the eight attributes is kept with probability 3/4 and otherwise left out. So few captions are
//! complete, and two captions of one picture mention different things. A missing shape becomes "thing" or
//! "shape", a missing relation "and" or "with"; other missing attributes are omitted. Words vary too: most
//! have a synonym.

use super::dice::Dice;
use super::world::{Colour, Fill, Ground, Relation, Scene, Shape, Sky};

/// How often an attribute is kept, in percent.
const KEPT: u32 = 75;

/// How often the size of an object is mentioned, in percent. Size is not an attribute: the thing is always
/// the smaller object.
const SIZE_SAID: u32 = 50;

/// How often the landmark is named first, in percent.
const LANDMARK_FIRST: u32 = 33;

/// How often the place opens the caption, in percent.
const PLACE_FIRST: u32 = 33;

/// How often the sky is named before the ground, in percent.
const SKY_FIRST: u32 = 33;

/// A word and its synonym. A word without a synonym is repeated.
type Words = [&'static str; 2];

const SMALL: [&str; 3] = ["small", "little", "tiny"];
const BIG: [&str; 3] = ["big", "large", "huge"];
const NAMELESS: [&str; 2] = ["thing", "shape"];
const OPENINGS: [&str; 4] = ["", "", "", "there is "];
const VERBS: [&str; 3] = ["there is", "we see", "is"];
/// "thing … landmark" without a relation.
const AND: &str = "and";
/// "landmark … thing" without a relation.
const WITH: &str = "with";

/// One caption of a scene: lower-case words with single spaces between them.
pub(super) fn caption(scene: Scene, dice: &mut Dice) -> String {
    let objects = objects(scene, dice);
    let place = place(scene, dice);
    if !place.is_empty() && dice.percent(PLACE_FIRST) {
        let verb = dice.pick(&VERBS);
        return format!("{place} {verb} {objects}");
    }
    let opening = dice.pick(&OPENINGS);
    let gap = if place.is_empty() { "" } else { " " };
    format!("{opening}{objects}{gap}{place}")
}

/// The landmark's shape, the thing's colour and its shape: "triangle red star".
pub(super) fn label(scene: Scene) -> String {
    let [landmark, thing] = [scene.kind.landmark, scene.thing].map(|shape| shape_words(shape)[0]);
    format!("{landmark} {} {thing}", colour_words(scene.colour)[0])
}

/// Mentions an attribute or leaves it out.
fn keep(words: &Words, dice: &mut Dice) -> Option<&'static str> {
    dice.percent(KEPT).then(|| dice.pick(words))
}

/// "a tiny striped red disc left of a blue square", or with the landmark first.
fn objects(scene: Scene, dice: &mut Dice) -> String {
    let thing = [
        dice.percent(SIZE_SAID).then(|| dice.pick(&SMALL)),
        keep(&fill_words(scene.fill), dice),
        keep(&colour_words(scene.colour), dice),
    ];
    let thing = noun_phrase(&thing, keep(&shape_words(scene.thing), dice), dice);
    let landmark = [dice.percent(SIZE_SAID).then(|| dice.pick(&BIG)), keep(&colour_words(scene.kind.colour), dice)];
    let landmark = noun_phrase(&landmark, keep(&shape_words(scene.kind.landmark), dice), dice);
    if dice.percent(LANDMARK_FIRST) {
        let relation = keep(&seen_from_thing(scene.relation), dice).unwrap_or(WITH);
        format!("{landmark} {relation} {thing}")
    } else {
        let relation = keep(&seen_from_landmark(scene.relation), dice).unwrap_or(AND);
        format!("{thing} {relation} {landmark}")
    }
}

/// "an orange thing": article, the mentioned adjectives, noun.
fn noun_phrase(adjectives: &[Option<&'static str>], noun: Option<&'static str>, dice: &mut Dice) -> String {
    let noun = noun.unwrap_or_else(|| dice.pick(&NAMELESS));
    let words: Vec<&str> = adjectives.iter().flatten().copied().chain([noun]).collect();
    let vowel = words[0].starts_with(['a', 'e', 'i', 'o', 'u']);
    let article = if vowel { "an" } else { "a" };
    format!("{article} {}", words.join(" "))
}

/// "on sand at night", one of the two parts, or nothing.
fn place(scene: Scene, dice: &mut Dice) -> String {
    let ground = keep(&ground_words(scene.kind.ground), dice);
    let sky = keep(&sky_words(scene.kind.sky), dice);
    let mut parts: Vec<&str> = ground.into_iter().chain(sky).collect();
    if dice.percent(SKY_FIRST) {
        parts.reverse();
    }
    parts.join(" ")
}

const fn shape_words(shape: Shape) -> Words {
    match shape {
        Shape::Disc => ["disc", "circle"],
        Shape::Square => ["square", "box"],
        Shape::Triangle => ["triangle", "wedge"],
        Shape::Diamond => ["diamond", "kite"],
        Shape::Ring => ["ring", "hoop"],
        Shape::Cross => ["cross", "plus"],
        Shape::Star => ["star", "star"],
        Shape::Pillar => ["pillar", "column"],
        Shape::Plank => ["plank", "beam"],
        Shape::Arch => ["arch", "gate"],
        Shape::Crescent => ["crescent", "moon"],
        Shape::Dome => ["dome", "hill"],
    }
}

const fn colour_words(colour: Colour) -> Words {
    match colour {
        Colour::Red => ["red", "crimson"],
        Colour::Orange => ["orange", "orange"],
        Colour::Yellow => ["yellow", "golden"],
        Colour::Green => ["green", "green"],
        Colour::Teal => ["teal", "turquoise"],
        Colour::Blue => ["blue", "navy"],
        Colour::Purple => ["purple", "violet"],
        Colour::Pink => ["pink", "rose"],
        Colour::Brown => ["brown", "brown"],
        Colour::White => ["white", "white"],
        Colour::Grey => ["grey", "silver"],
        Colour::Black => ["black", "dark"],
    }
}

const fn fill_words(fill: Fill) -> Words {
    match fill {
        Fill::Plain => ["plain", "solid"],
        Fill::Striped => ["striped", "stripy"],
        Fill::Barred => ["barred", "slatted"],
        Fill::Spotted => ["spotted", "dotted"],
        Fill::Chequered => ["chequered", "checked"],
    }
}

const fn ground_words(ground: Ground) -> Words {
    match ground {
        Ground::Sand => ["on sand", "on a beach"],
        Ground::Grass => ["on grass", "in a meadow"],
        Ground::Snow => ["on snow", "on white ground"],
        Ground::Water => ["on water", "at sea"],
        Ground::Rock => ["on rocks", "on stone"],
        Ground::Earth => ["in a field", "on bare earth"],
        Ground::Road => ["on a road", "in the street"],
        Ground::Ice => ["on ice", "on a frozen lake"],
        Ground::Tiles => ["on tiles", "on a tiled floor"],
        Ground::Wood => ["on boards", "on a wooden floor"],
        Ground::Leaves => ["on fallen leaves", "in autumn leaves"],
        Ground::Mud => ["in mud", "in a swamp"],
    }
}

const fn sky_words(sky: Sky) -> Words {
    match sky {
        Sky::Clear => ["under blue sky", "in sunshine"],
        Sky::Cloudy => ["under white clouds", "in cloudy weather"],
        Sky::Grey => ["under grey sky", "in dull weather"],
        Sky::Starry => ["under stars", "at night"],
        Sky::Sunset => ["at sunset", "in evening sun"],
        Sky::Dawn => ["at dawn", "at sunrise"],
        Sky::Rain => ["in rain", "in rainy weather"],
        Sky::Snowfall => ["in falling snow", "while snowing"],
        Sky::Storm => ["in a storm", "in stormy weather"],
        Sky::Fog => ["in fog", "in mist"],
        Sky::Dusk => ["at dusk", "in twilight"],
        Sky::Aurora => ["under northern lights", "under aurora"],
    }
}

/// The thing is … the landmark.
const fn seen_from_landmark(relation: Relation) -> Words {
    match relation {
        Relation::LeftOf => ["left of", "to the left of"],
        Relation::RightOf => ["right of", "to the right of"],
        Relation::Above => ["above", "over"],
        Relation::Below => ["below", "beneath"],
        Relation::InFrontOf => ["in front of", "covering"],
    }
}

/// The landmark is … the thing.
const fn seen_from_thing(relation: Relation) -> Words {
    match relation {
        Relation::LeftOf => seen_from_landmark(Relation::RightOf),
        Relation::RightOf => seen_from_landmark(Relation::LeftOf),
        Relation::Above => seen_from_landmark(Relation::Below),
        Relation::Below => seen_from_landmark(Relation::Above),
        Relation::InFrontOf => ["behind", "in the back of"],
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Part;
    use super::super::dice::Purpose;
    use super::super::world::KINDS;
    use super::*;

    /// Every word of the grammar.
    fn words() -> BTreeSet<&'static str> {
        let mut phrases = vec!["a", "an", AND, WITH];
        phrases.extend(SMALL.iter().chain(&BIG).chain(&NAMELESS).chain(&OPENINGS).chain(&VERBS));
        phrases.extend(Shape::ALL.map(shape_words).as_flattened());
        phrases.extend(Colour::ALL.map(colour_words).as_flattened());
        phrases.extend(Fill::ALL.map(fill_words).as_flattened());
        phrases.extend(Ground::ALL.map(ground_words).as_flattened());
        phrases.extend(Sky::ALL.map(sky_words).as_flattened());
        phrases.extend(Relation::ALL.map(seen_from_landmark).as_flattened());
        phrases.extend(Relation::ALL.map(seen_from_thing).as_flattened());
        phrases.into_iter().flat_map(str::split_whitespace).collect()
    }

    /// A few thousand captions of one scene.
    fn captions(scene: Scene) -> Vec<String> {
        let mut dice = Dice::new(5, Part::Train, 0, Purpose::Captions);
        (0..4000).map(|_| caption(scene, &mut dice)).collect()
    }

    fn example() -> Scene {
        Scene {
            kind: KINDS[7], // an orange ring on water in a storm
            thing: Shape::Arch,
            colour: Colour::Teal,
            fill: Fill::Spotted,
            relation: Relation::Above,
        }
    }

    #[test]
    fn captions_are_plain_words_of_the_grammar() {
        let words = words();
        let mut said = BTreeSet::new();
        for kind in KINDS {
            for caption in captions(Scene { kind, ..example() }) {
                assert!(!caption.starts_with(' ') && !caption.ends_with(' '), "{caption:?}");
                for word in caption.split(' ') {
                    assert!(word.bytes().all(|b| b.is_ascii_lowercase()), "{caption:?}");
                    assert!(words.contains(word), "{word:?} in {caption:?}");
                    said.insert(word.to_owned());
                }
            }
        }
        // All skies and grounds occur in the kinds. Only attributes of things may be missing.
        assert!(said.len() > 100, "{}", said.len());
    }

    #[test]
    fn the_vocabulary_is_small() {
        assert_eq!(words().len(), 141, "docs/scenes.md names this number");
    }

    #[test]
    fn an_attribute_is_kept_three_times_in_four() {
        let captions = captions(example());
        let share = |words: Words| {
            let said = |caption: &&String| words.iter().any(|word| caption.contains(word));
            captions.iter().filter(said).count() as f64 / captions.len() as f64
        };
        let shares = [
            share(["arch", "gate"]),
            share(["teal", "turquoise"]),
            share(["spotted", "dotted"]),
            share(["ring", "hoop"]),
            share(["orange", "orange"]),
            share(["on water", "at sea"]),
            share(["storm", "stormy"]),
            share(["above", "over"]) + share(["below", "beneath"]),
        ];
        for share in shares {
            assert!((share - 0.75).abs() < 0.03, "{shares:?}");
        }
    }

    #[test]
    fn an_inverted_relation_means_the_same() {
        for caption in captions(example()) {
            let at = |words: [&str; 2]| words.iter().find_map(|word| caption.find(word));
            let thing_first = at(["arch", "gate"]).zip(at(["ring", "hoop"])).map(|(a, b)| a < b);
            match (thing_first, at(["above", "over"]), at(["below", "beneath"])) {
                (Some(true), _, Some(_)) | (Some(false), Some(_), _) => {
                    panic!("the arch is above the ring: {caption:?}")
                }
                _ => {}
            }
        }
    }

    #[test]
    fn articles_agree() {
        for caption in captions(example()) {
            assert!(!caption.contains("a orange") && !caption.contains("a arch"), "{caption:?}");
            assert!(!caption.contains("an ring") && !caption.contains("an teal"), "{caption:?}");
        }
    }
}
