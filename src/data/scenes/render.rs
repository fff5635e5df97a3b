//! Draws a scene as pixels.
//!
//! Everything is integer arithmetic, so a picture has the same bytes on every machine. Lengths are in
//! sixteenths of a pixel ([`UNIT`]). A pixel is the mean of 2 × 2 samples, which smooths the edges.
//!
//! Two pictures of one scene differ. The horizon, the objects' places and sizes, every colour, the light
//! and the grain are drawn for each picture. This is the noise in the image features.

use super::dice::Dice;
use super::world::{Colour, Fill, Ground, Relation, Scene, Shape, Sky};
use crate::data::pictures::Picture;

/// Width and height of a close picture, in pixels.
const SIDE: u8 = 48;

/// Units of length per pixel.
const UNIT: i32 = 16;

/// The largest deviation of a colour channel from its table, in either direction.
const COLOUR_JITTER: i32 = 16;

/// The grain: the standard deviation of the noise on a channel of a pixel, out of 255.
const GRAIN: i32 = 10;

/// The standard deviation of [`Dice::bell`].
const BELL: i32 = 148;

/// A colour as red, green and blue in `0..=255`, as integers that leave room for arithmetic.
type Rgb = [i32; 3];

/// How a scene is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    /// 48 × 48 pixels with the objects in the middle.
    Close,
    /// 64 × 64 pixels; the scene is larger or smaller, and the objects are anywhere in the picture.
    Wide,
}

/// Draws a picture of `scene`; `dice` decides everything that varies.
pub(super) fn render(scene: Scene, framing: Framing, dice: &mut Dice) -> Picture {
    let photograph = Photograph::take(scene, dice);
    let camera = match framing {
        Framing::Close => Camera::CLOSE,
        Framing::Wide => Camera::wide([&photograph.landmark, &photograph.thing], dice),
    };
    let side = usize::from(camera.side);
    let mut rgb = Vec::with_capacity(3 * side * side);
    for y in 0..camera.side {
        for x in 0..camera.side {
            for channel in photograph.pixel(&camera, x.into(), y.into()) {
                rgb.push(byte(channel + dice.bell() * GRAIN / BELL));
            }
        }
    }
    Picture { width: side, height: side, rgb }
}

/// Where a point of the picture is in the scene.
struct Camera {
    /// Width and height of the picture, in pixels.
    side: u8,
    /// Units of the scene for 64 units of the picture.
    scale: i32,
    /// The picture's corner at the top left, in the scene.
    corner: (i32, i32),
}

impl Camera {
    const CLOSE: Self = Self { side: SIDE, scale: 64, corner: (0, 0) };

    /// A scale from 43 to 64: objects are magnified by 1 to 1.5. Both are in the picture.
    fn wide(bodies: [&Body; 2], dice: &mut Dice) -> Self {
        let (side, scale) = (64, dice.between(43, 64));
        let extent = i32::from(side) * UNIT * scale / 64;
        let mut corner = |centre: fn(&Body) -> i32| {
            let first = bodies.map(|body| centre(body) - body.radius);
            let last = bodies.map(|body| centre(body) + body.radius);
            dice.between(last[0].max(last[1]) - extent, first[0].min(first[1]))
        };
        let corner = (corner(|body| body.centre.0), corner(|body| body.centre.1));
        Self { side, scale, corner }
    }

    fn in_scene(&self, x: i32, y: i32) -> (i32, i32) {
        (self.corner.0 + x * self.scale / 64, self.corner.1 + y * self.scale / 64)
    }
}

/// A channel as a byte, clamped to `0..=255`.
fn byte(channel: i32) -> u8 {
    u8::try_from(channel.clamp(0, 255)).unwrap_or(u8::MAX)
}

/// The draws that are made once per picture.
struct Photograph {
    /// First row of the ground, in pixels.
    horizon: i32,
    sky: Surface,
    ground: Surface,
    landmark: Body,
    thing: Body,
    /// Brightness of the light, in percent.
    light: i32,
}

impl Photograph {
    fn take(scene: Scene, dice: &mut Dice) -> Self {
        let landmark_radius = dice.between(8 * UNIT, 10 * UNIT);
        let thing_radius = dice.between(13 * UNIT / 2, 8 * UNIT);
        let place = Placement::draw(scene.relation, landmark_radius, thing_radius, dice);
        Self {
            horizon: dice.between(23, 27),
            sky: Surface::sky(scene.kind.sky, dice),
            ground: Surface::ground(scene.kind.ground, dice),
            landmark: Body {
                shape: scene.kind.landmark,
                centre: place.landmark,
                radius: landmark_radius,
                surface: Surface::painted(scene.kind.colour, Fill::Plain, dice),
            },
            thing: Body {
                shape: scene.thing,
                centre: place.thing,
                radius: thing_radius,
                surface: Surface::painted(scene.colour, scene.fill, dice),
            },
            light: dice.between(80, 112),
        }
    }

    /// A pixel before grain: the mean of four samples, in this light.
    fn pixel(&self, camera: &Camera, x: i32, y: i32) -> Rgb {
        let mut sum = [0; 3];
        for (dx, dy) in [(4, 4), (12, 4), (4, 12), (12, 12)] {
            let (x, y) = camera.in_scene(UNIT * x + dx, UNIT * y + dy);
            let sample = self.sample(x, y);
            for (k, channel) in sample.iter().enumerate() {
                sum[k] += channel;
            }
        }
        for total in &mut sum {
            *total = *total * self.light / 400;
        }
        sum
    }

    /// The colour at one point. The thing covers the landmark, which covers ground and sky.
    fn sample(&self, x: i32, y: i32) -> Rgb {
        let surface = if self.thing.covers(x, y) {
            &self.thing.surface
        } else if self.landmark.covers(x, y) {
            &self.landmark.surface
        } else if y >= UNIT * self.horizon {
            &self.ground
        } else {
            &self.sky
        };
        surface.at(x.div_euclid(UNIT), y.div_euclid(UNIT))
    }
}

/// The positions of the two objects.
struct Placement {
    landmark: (i32, i32),
    thing: (i32, i32),
}

impl Placement {
    /// Places the landmark near the middle, slightly away from the thing, and the thing as the relation
    /// says.
    fn draw(relation: Relation, landmark_radius: i32, thing_radius: i32, dice: &mut Dice) -> Self {
        let (right, down) = match relation {
            Relation::LeftOf => (-1, 0),
            Relation::RightOf => (1, 0),
            Relation::Above => (0, -1),
            Relation::Below => (0, 1),
            Relation::InFrontOf => (0, 0),
        };
        let mut wobble = |pixels: i32| dice.between(-pixels * UNIT, pixels * UNIT);
        let middle = UNIT * i32::from(SIDE) / 2;
        let lean = 8 * UNIT;
        let landmark = (middle - right * lean + wobble(1), middle - down * lean + wobble(1));
        let distance = landmark_radius + thing_radius + UNIT;
        let thing = (landmark.0 + right * distance + wobble(1), landmark.1 + down * distance + wobble(1));
        Self { landmark, thing }
    }
}

/// An object: an outline filled with a surface.
struct Body {
    shape: Shape,
    centre: (i32, i32),
    radius: i32,
    surface: Surface,
}

impl Body {
    fn covers(&self, x: i32, y: i32) -> bool {
        inside(self.shape, x - self.centre.0, y - self.centre.1, self.radius)
    }
}

/// Whether the point `(x, y)`, relative to the centre, x to the right and y down, is inside the shape of
/// radius `r`. The tests are inequalities between polynomials with integer coefficients.
fn inside(shape: Shape, x: i32, y: i32, r: i32) -> bool {
    let (u, v) = (x.abs(), y.abs());
    let (wide, narrow) = (u.max(v), u.min(v));
    let square = x * x + y * y;
    match shape {
        Shape::Disc => square <= r * r,
        Shape::Square => 20 * wide <= 17 * r,
        Shape::Triangle => 10 * y <= 8 * r && 20 * u <= 11 * (y + r),
        Shape::Diamond => 4 * u + 3 * v <= 3 * r,
        Shape::Ring => square <= r * r && 4 * square >= r * r,
        Shape::Cross => 10 * narrow <= 3 * r && wide <= r,
        Shape::Star => star(x, y, r),
        Shape::Pillar => 20 * u <= 9 * r && v <= r,
        Shape::Plank => 20 * v <= 9 * r && u <= r,
        Shape::Arch => {
            let hole = if y < 0 { 4 * square <= r * r } else { 2 * u <= r };
            let block = if y < 0 { square <= r * r } else { u <= r };
            block && !hole && 10 * y <= 9 * r
        }
        Shape::Crescent => {
            let shifted = 2 * x - r;
            square <= r * r && shifted * shifted + 4 * y * y > 3 * r * r
        }
        Shape::Dome => {
            let lifted = y - r / 2;
            lifted <= 0 && x * x + lifted * lifted <= r * r
        }
    }
}

/// A five-pointed star: the even-odd rule on its ten corners, in hundredths of the radius.
fn star(x: i32, y: i32, r: i32) -> bool {
    const CORNERS: [(i32, i32); 10] =
        [(0, -100), (26, -36), (95, -31), (43, 14), (59, 81), (0, 45), (-59, 81), (-43, 14), (-95, -31), (-26, -36)];
    let (x, y) = (100 * x, 100 * y);
    let mut odd = false;
    for (k, &(ax, ay)) in CORNERS.iter().enumerate() {
        let (bx, by) = CORNERS[(k + 1) % CORNERS.len()];
        let (ax, ay, bx, by) = (ax * r, ay * r, bx * r, by * r);
        if (ay > y) != (by > y) {
            // The edge crosses the height y. Is the crossing to the right of x? The sign of the cross
            // product and the edge's direction decide, without a division.
            let cross = i64::from(bx - ax) * i64::from(y - ay) - i64::from(by - ay) * i64::from(x - ax);
            odd ^= (cross > 0) == (by > ay);
        }
    }
    odd
}

/// A colour with a pattern of a second colour.
struct Surface {
    base: Rgb,
    accent: Rgb,
    pattern: Pattern,
    /// The offset of the pattern, in pixels.
    phase: (i32, i32),
}

/// The pattern of the second colour. The number is the period in pixels.
#[derive(Clone, Copy)]
enum Pattern {
    Plain,
    Rows(i32),
    Columns(i32),
    Diagonals(i32),
    Dots(i32),
    Checks(i32),
}

impl Surface {
    fn new(base: Rgb, accent: Rgb, pattern: Pattern, dice: &mut Dice) -> Self {
        let shift = [(); 3].map(|()| dice.between(-COLOUR_JITTER, COLOUR_JITTER));
        let jittered = |colour: Rgb| [0, 1, 2].map(|k| (colour[k] + shift[k]).clamp(0, 255));
        Self {
            base: jittered(base),
            accent: jittered(accent),
            pattern,
            phase: (dice.between(0, 11), dice.between(0, 11)),
        }
    }

    /// The colour at a pixel.
    fn at(&self, x: i32, y: i32) -> Rgb {
        let (x, y) = (x + self.phase.0, y + self.phase.1);
        let first_half = |position: i32, period: i32| position.rem_euclid(period) < period / 2;
        let accented = match self.pattern {
            Pattern::Plain => false,
            Pattern::Rows(period) => first_half(y, period),
            Pattern::Columns(period) => first_half(x, period),
            Pattern::Diagonals(period) => first_half(x + y, period),
            Pattern::Dots(period) => first_half(x, period) && first_half(y, period),
            Pattern::Checks(period) => first_half(x, period) != first_half(y, period),
        };
        if accented { self.accent } else { self.base }
    }

    /// The second colour of ground and sky, moved half-way to the first, so that their patterns are weaker
    /// than those of the objects.
    fn softened(base: Rgb, accent: Rgb) -> Rgb {
        [0, 1, 2].map(|k| i32::midpoint(base[k], accent[k]))
    }

    fn ground(ground: Ground, dice: &mut Dice) -> Self {
        use Pattern::{Checks, Columns, Diagonals, Dots, Plain, Rows};
        let (base, accent, pattern) = match ground {
            Ground::Sand => ([218, 192, 130], [198, 168, 106], Rows(8)),
            Ground::Grass => ([78, 150, 60], [56, 118, 44], Columns(4)),
            Ground::Snow => ([236, 239, 246], [206, 216, 234], Dots(8)),
            Ground::Water => ([48, 105, 172], [92, 152, 206], Rows(6)),
            Ground::Rock => ([132, 127, 122], [98, 94, 92], Diagonals(8)),
            Ground::Earth => ([122, 86, 56], [92, 62, 40], Rows(4)),
            Ground::Road => ([78, 78, 84], [78, 78, 84], Plain),
            Ground::Ice => ([182, 218, 234], [222, 240, 248], Diagonals(6)),
            Ground::Tiles => ([202, 122, 96], [234, 222, 212], Checks(8)),
            Ground::Wood => ([168, 118, 68], [132, 88, 48], Columns(8)),
            Ground::Leaves => ([178, 98, 42], [206, 146, 52], Checks(4)),
            Ground::Mud => ([88, 72, 52], [62, 50, 38], Dots(6)),
        };
        Self::new(base, Self::softened(base, accent), pattern, dice)
    }

    fn sky(sky: Sky, dice: &mut Dice) -> Self {
        use Pattern::{Checks, Columns, Diagonals, Dots, Plain, Rows};
        let (base, accent, pattern) = match sky {
            Sky::Clear => ([122, 182, 240], [122, 182, 240], Plain),
            Sky::Cloudy => ([130, 180, 232], [236, 240, 246], Checks(12)),
            Sky::Grey => ([166, 170, 176], [146, 150, 158], Rows(12)),
            Sky::Starry => ([20, 22, 56], [150, 150, 150], Dots(6)),
            Sky::Sunset => ([246, 142, 70], [226, 96, 72], Rows(8)),
            Sky::Dawn => ([250, 190, 190], [250, 216, 170], Rows(8)),
            Sky::Rain => ([110, 126, 146], [160, 176, 196], Diagonals(4)),
            Sky::Snowfall => ([190, 200, 212], [246, 248, 250], Dots(4)),
            Sky::Storm => ([58, 62, 78], [98, 102, 118], Diagonals(12)),
            Sky::Fog => ([214, 218, 214], [214, 218, 214], Plain),
            Sky::Dusk => ([108, 80, 142], [146, 98, 146], Rows(12)),
            Sky::Aurora => ([26, 50, 70], [70, 190, 130], Columns(12)),
        };
        Self::new(base, Self::softened(base, accent), pattern, dice)
    }

    /// The surface of an object: the colour with a pattern in a darker shade (for black, a lighter one).
    fn painted(colour: Colour, fill: Fill, dice: &mut Dice) -> Self {
        let base = match colour {
            Colour::Red => [210, 40, 40],
            Colour::Orange => [240, 140, 30],
            Colour::Yellow => [245, 220, 50],
            Colour::Green => [40, 150, 60],
            Colour::Teal => [40, 170, 170],
            Colour::Blue => [40, 70, 200],
            Colour::Purple => [130, 50, 160],
            Colour::Pink => [245, 140, 185],
            Colour::Brown => [120, 70, 35],
            Colour::White => [245, 245, 245],
            Colour::Grey => [135, 135, 135],
            Colour::Black => [25, 25, 25],
        };
        let shade = match colour {
            Colour::Black => [130, 130, 130],
            _ => base.map(|channel| channel * 2 / 5),
        };
        let pattern = match fill {
            Fill::Plain => Pattern::Plain,
            Fill::Striped => Pattern::Rows(6),
            Fill::Barred => Pattern::Columns(6),
            Fill::Spotted => Pattern::Dots(4),
            Fill::Chequered => Pattern::Checks(6),
        };
        Self::new(base, shade, pattern, dice)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Part;
    use super::super::dice::Purpose;
    use super::*;

    #[test]
    fn shapes_fill_a_fair_part_of_their_square_and_stay_inside_it() {
        let r = 100;
        for shape in Shape::ALL {
            let mut covered = 0;
            for y in -150..=150 {
                for x in -150..=150 {
                    if inside(shape, x, y, r) {
                        covered += 1;
                        assert!(x.abs() <= r && y.abs() <= r, "{shape:?} reaches ({x}, {y})");
                    }
                }
            }
            let percent = covered * 100 / (201 * 201);
            assert!((20..=80).contains(&percent), "{shape:?} covers {percent} %");
        }
    }

    #[test]
    fn in_a_wide_picture_both_objects_are_there_and_places_and_sizes_vary() {
        let (mut scales, mut corners) = (Vec::new(), Vec::new());
        for row in 0..500 {
            let scene = Scene::draw(&mut Dice::new(3, Part::Train, row, Purpose::Scene));
            let dice = &mut Dice::new(3, Part::Train, row, Purpose::Photograph);
            let photograph = Photograph::take(scene, dice);
            let camera = Camera::wide([&photograph.landmark, &photograph.thing], dice);
            let end = i32::from(camera.side) * UNIT;
            let (first, last) = (camera.in_scene(0, 0), camera.in_scene(end, end));
            for body in [&photograph.landmark, &photograph.thing] {
                for (at, first, last) in [(body.centre.0, first.0, last.0), (body.centre.1, first.1, last.1)] {
                    assert!(first <= at - body.radius && at + body.radius <= last, "{scene:?}");
                }
            }
            scales.push(camera.scale);
            corners.push(camera.corner.0);
        }
        assert_eq!((scales.iter().min(), scales.iter().max()), (Some(&43), Some(&64)));
        let (least, most) = (corners.iter().min().unwrap(), corners.iter().max().unwrap());
        assert!(most - least > 24 * UNIT, "{least} to {most}");
    }

    #[test]
    fn objects_stay_in_the_picture() {
        for row in 0..500 {
            let scene = Scene::draw(&mut Dice::new(3, Part::Train, row, Purpose::Scene));
            let dice = &mut Dice::new(3, Part::Train, row, Purpose::Photograph);
            let photograph = Photograph::take(scene, dice);
            for body in [&photograph.landmark, &photograph.thing] {
                for at in [body.centre.0, body.centre.1] {
                    // An object may extend beyond the border by at most two pixels.
                    assert!(at - body.radius >= -2 * UNIT, "{scene:?}");
                    assert!(at + body.radius <= (i32::from(SIDE) + 2) * UNIT, "{scene:?}");
                }
            }
        }
    }
}
