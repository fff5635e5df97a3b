//! The description of a scene, from which a picture and captions are made.
//!
//! A scene has eight attributes. Four are **tied**: one of 25 [`KINDS`] of scene fixes them together, as a
//! beach comes with sand and a certain sky. They fill most of the picture. Four are **free**: the shape of
//! a smaller thing, its colour, its pattern and its place next to the landmark, each drawn independently.
//! They fill little of the picture, and two scenes of one kind differ only in them.

use super::dice::Dice;

/// Declares an attribute: an enum and the list of its values.
macro_rules! attribute {
    ($(#[$doc:meta])* $name:ident { $($value:ident),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum $name { $($value),+ }

        impl $name {
            /// Every value, in order.
            #[allow(dead_code)] // some lists have no user but tests
            pub(crate) const ALL: [Self; [$(Self::$value),+].len()] = [$(Self::$value),+];
        }
    };
}

attribute! {
    /// What the lower half of the picture shows.
    Ground { Sand, Grass, Snow, Water, Rock, Earth, Road, Ice, Tiles, Wood, Leaves, Mud }
}

attribute! {
    /// What the upper half of the picture shows.
    Sky { Clear, Cloudy, Grey, Starry, Sunset, Dawn, Rain, Snowfall, Storm, Fog, Dusk, Aurora }
}

attribute! {
    /// The outline of the landmark or of the thing.
    Shape {
        Disc, Square, Triangle, Diamond, Ring, Cross, Star, Pillar, Plank, Arch, Crescent, Dome,
    }
}

attribute! {
    /// The colour of the landmark or of the thing.
    Colour {
        Red, Orange, Yellow, Green, Teal, Blue, Purple, Pink, Brown, White, Grey, Black,
    }
}

attribute! {
    /// The pattern of the thing.
    Fill { Plain, Striped, Barred, Spotted, Chequered }
}

attribute! {
    /// The place of the thing relative to the landmark.
    Relation { LeftOf, RightOf, Above, Below, InFrontOf }
}

/// A kind of scene: the four tied attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// The lower half of the picture.
    pub ground: Ground,
    /// The upper half of the picture.
    pub sky: Sky,
    /// The shape of the landmark, the large object in the middle.
    pub landmark: Shape,
    /// The colour of the landmark.
    pub colour: Colour,
}

const fn kind(ground: Ground, sky: Sky, landmark: Shape, colour: Colour) -> Kind {
    Kind { ground, sky, landmark, colour }
}

/// The 25 kinds of scene. Every value occurs two or three times in its column, so no single attribute
/// determines the kind. Two kinds agree in at most two attributes.
pub(super) const KINDS: [Kind; 25] = [
    kind(Ground::Sand, Sky::Clear, Shape::Triangle, Colour::White),
    kind(Ground::Sand, Sky::Sunset, Shape::Disc, Colour::Red),
    kind(Ground::Grass, Sky::Clear, Shape::Square, Colour::Red),
    kind(Ground::Grass, Sky::Cloudy, Shape::Triangle, Colour::Green),
    kind(Ground::Snow, Sky::Snowfall, Shape::Dome, Colour::White),
    kind(Ground::Snow, Sky::Grey, Shape::Triangle, Colour::Blue),
    kind(Ground::Water, Sky::Clear, Shape::Crescent, Colour::Brown),
    kind(Ground::Water, Sky::Storm, Shape::Ring, Colour::Orange),
    kind(Ground::Rock, Sky::Fog, Shape::Pillar, Colour::Grey),
    kind(Ground::Rock, Sky::Storm, Shape::Arch, Colour::Brown),
    kind(Ground::Earth, Sky::Cloudy, Shape::Cross, Colour::Black),
    kind(Ground::Earth, Sky::Dawn, Shape::Plank, Colour::Green),
    kind(Ground::Road, Sky::Rain, Shape::Disc, Colour::Yellow),
    kind(Ground::Road, Sky::Grey, Shape::Square, Colour::Blue),
    kind(Ground::Ice, Sky::Aurora, Shape::Dome, Colour::Purple),
    kind(Ground::Ice, Sky::Snowfall, Shape::Star, Colour::Teal),
    kind(Ground::Tiles, Sky::Dusk, Shape::Arch, Colour::Pink),
    kind(Ground::Tiles, Sky::Starry, Shape::Ring, Colour::Teal),
    kind(Ground::Wood, Sky::Dawn, Shape::Diamond, Colour::Yellow),
    kind(Ground::Wood, Sky::Dusk, Shape::Plank, Colour::Purple),
    kind(Ground::Leaves, Sky::Rain, Shape::Pillar, Colour::Pink),
    kind(Ground::Leaves, Sky::Fog, Shape::Diamond, Colour::Orange),
    kind(Ground::Mud, Sky::Sunset, Shape::Cross, Colour::Grey),
    kind(Ground::Mud, Sky::Starry, Shape::Crescent, Colour::Black),
    kind(Ground::Sand, Sky::Aurora, Shape::Star, Colour::White),
];

/// A scene: its kind and its four free attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Scene {
    /// The four tied attributes.
    pub kind: Kind,
    /// The shape of the thing, the smaller object.
    pub thing: Shape,
    /// The colour of the thing.
    pub colour: Colour,
    /// The pattern of the thing.
    pub fill: Fill,
    /// The place of the thing relative to the landmark.
    pub relation: Relation,
}

impl Scene {
    /// Draws a scene: the kind and each free attribute uniformly and independently, except that the thing
    /// never has the landmark's colour.
    pub(super) fn draw(dice: &mut Dice) -> Self {
        let kind = dice.pick(&KINDS);
        let others = Colour::ALL.len() - 1;
        let step = 1 + dice.index(others);
        let colour = Colour::ALL[(kind.colour as usize + step) % Colour::ALL.len()];
        Self {
            kind,
            thing: dice.pick(&Shape::ALL),
            colour,
            fill: dice.pick(&Fill::ALL),
            relation: dice.pick(&Relation::ALL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::dice::Purpose;
    use super::*;

    const DRAWS: usize = 24_000;

    fn draws() -> Vec<Scene> {
        let draw = |row| Scene::draw(&mut Dice::new(2, Part::Train, row, Purpose::Scene));
        (0..DRAWS).map(draw).collect()
    }

    /// Asserts that each of `N` values is drawn as often as the others, within a tenth.
    fn assert_uniform<const N: usize>(values: impl Iterator<Item = usize>) {
        let mut counts = [0_usize; N];
        for value in values {
            counts[value] += 1;
        }
        let fair = DRAWS as f64 / N as f64;
        for count in counts {
            assert!((count as f64 - fair).abs() < 0.1 * fair, "{counts:?}");
        }
    }

    #[test]
    fn kinds_and_free_attributes_are_uniform() {
        let scenes = draws();
        let number = |kind| KINDS.iter().position(|&k| k == kind).unwrap();
        assert_uniform::<25>(scenes.iter().map(|scene| number(scene.kind)));
        assert_uniform::<12>(scenes.iter().map(|scene| scene.thing as usize));
        assert_uniform::<5>(scenes.iter().map(|scene| scene.fill as usize));
        assert_uniform::<5>(scenes.iter().map(|scene| scene.relation as usize));
        let step = |scene: &Scene| scene.colour as usize + 12 - scene.kind.colour as usize;
        assert_uniform::<11>(scenes.iter().map(|scene| step(scene) % 12 - 1));
    }

    #[test]
    fn no_single_attribute_determines_the_kind() {
        let columns: [fn(&Kind) -> usize; 4] = [
            |kind| kind.ground as usize,
            |kind| kind.sky as usize,
            |kind| kind.landmark as usize,
            |kind| kind.colour as usize,
        ];
        for column in columns {
            let mut counts = [0; 12];
            for kind in &KINDS {
                counts[column(kind)] += 1;
            }
            assert!(counts.iter().all(|count| (2..=3).contains(count)), "{counts:?}");
        }
        for (k, a) in KINDS.iter().enumerate() {
            for b in &KINDS[..k] {
                let shared = columns.iter().filter(|column| column(a) == column(b)).count();
                assert!(shared <= 2, "{a:?} and {b:?}");
            }
        }
    }
}
