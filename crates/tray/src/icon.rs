//! The icons, drawn here: a few shapes need no files, and any size is sharp.
//!
//! Each sign has an outline and a mark of its own, so that none hangs on colour: a disc with a tick,
//! a triangle with a bar and a dot, an octagon with a cross, and a ring struck through.

use everfresh_domain::health::Level;

use crate::model::Sign;

/// Points of a pixel's side that are looked at: their share is the pixel's opacity.
const SAMPLES: u32 = 4;

const WHITE: [u8; 3] = [0xff, 0xff, 0xff];
const DARK: [u8; 3] = [0x1a, 0x1a, 0x1a];

/// A square picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Picture {
    /// Pixels of a side.
    pub(crate) size: u32,
    /// Red, green, blue and opacity of each pixel, row by row from the top; colours are not
    /// multiplied by opacity.
    pub(crate) rgba: Vec<u8>,
}

impl Picture {
    /// The icon of `sign`, `size` pixels wide and high.
    pub(crate) fn of(sign: Sign, size: u32) -> Self {
        let rgba = (0..size * size).flat_map(|at| pixel(sign, size, at % size, at / size)).collect();
        Self { size, rgba }
    }
}

/// What is at a point: nothing, the outline's colour or the mark's.
fn colour_at(sign: Sign, x: f32, y: f32) -> Option<[u8; 3]> {
    match sign {
        Sign::Level(Level::Healthy) => {
            let tick =
                near((x, y), (-0.42, 0.05), (-0.12, 0.35), 0.11) || near((x, y), (-0.12, 0.35), (0.45, -0.32), 0.11);
            (x.hypot(y) < 0.92).then_some(if tick { WHITE } else { [0x1b, 0x87, 0x3f] })
        }
        Sign::Level(Level::Degraded) => {
            let bar = near((x, y), (0.0, -0.25), (0.0, 0.25), 0.12) || near((x, y), (0.0, 0.58), (0.0, 0.58), 0.13);
            let inside = y < 0.85 && x.abs() < (y + 0.95) * 0.55;
            inside.then_some(if bar { DARK } else { [0xf2, 0xb0, 0x1e] })
        }
        Sign::Level(Level::Unhealthy) => {
            let cross =
                near((x, y), (-0.38, -0.38), (0.38, 0.38), 0.13) || near((x, y), (-0.38, 0.38), (0.38, -0.38), 0.13);
            let inside = x.abs().max(y.abs()) < 0.9 && x.abs() + y.abs() < 1.27;
            inside.then_some(if cross { WHITE } else { [0xc6, 0x28, 0x28] })
        }
        Sign::Gone => {
            let ring = (0.62..0.88).contains(&x.hypot(y));
            let stroke = near((x, y), (-0.52, 0.52), (0.52, -0.52), 0.12);
            (ring || stroke).then_some([0x8a, 0x8a, 0x8a])
        }
    }
}

/// Whether a point is within `width` of the line from `from` to `to`.
fn near(point: (f32, f32), from: (f32, f32), to: (f32, f32), width: f32) -> bool {
    let (dx, dy) = (to.0 - from.0, to.1 - from.1);
    let (px, py) = (point.0 - from.0, point.1 - from.1);
    let length = dx * dx + dy * dy;
    let along = if length > 0.0 { ((px * dx + py * dy) / length).clamp(0.0, 1.0) } else { 0.0 };
    (px - along * dx).hypot(py - along * dy) < width
}

/// The mean of the colours that are there, and their share as opacity.
fn pixel(sign: Sign, size: u32, column: u32, row: u32) -> [u8; 4] {
    let place = |whole: u32, part: u32| {
        let at = (whole * SAMPLES + part) as f32 + 0.5;
        at / (size * SAMPLES) as f32 * 2.0 - 1.0
    };
    let mut sum = [0_u32; 3];
    let mut hits = 0;
    for sample in 0..SAMPLES * SAMPLES {
        let (x, y) = (place(column, sample % SAMPLES), place(row, sample / SAMPLES));
        if let Some(colour) = colour_at(sign, x, y) {
            hits += 1;
            for (total, part) in sum.iter_mut().zip(colour) {
                *total += u32::from(part);
            }
        }
    }
    let [red, green, blue] = sum.map(|total| byte(total, hits));
    [red, green, blue, byte(255 * hits, SAMPLES * SAMPLES)]
}

fn byte(total: u32, count: u32) -> u8 {
    total.checked_div(count).and_then(|mean| u8::try_from(mean).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNS: [Sign; 4] =
        [Sign::Level(Level::Healthy), Sign::Level(Level::Degraded), Sign::Level(Level::Unhealthy), Sign::Gone];

    /// The picture as someone sees it who sees no colours: which pixels are there, and which of them are light.
    fn silhouette(picture: &Picture) -> Vec<(bool, bool)> {
        let grey =
            |pixel: &[u8]| (u32::from(pixel[0]) * 299 + u32::from(pixel[1]) * 587 + u32::from(pixel[2]) * 114) / 1000;
        picture.rgba.chunks(4).map(|pixel| (pixel[3] > 127, pixel[3] > 127 && grey(pixel) > 200)).collect()
    }

    #[test]
    fn signs_differ_by_their_outlines_alone() {
        for size in [16, 22, 48] {
            let shapes = SIGNS.map(|sign| silhouette(&Picture::of(sign, size)));
            for (at, one) in shapes.iter().enumerate() {
                for other in &shapes[at + 1..] {
                    let different =
                        one.iter().zip(other).filter(|(one, other)| one.0 != other.0 || one.1 != other.1).count();
                    assert!(different * 12 > one.len(), "{different} of {} at {size}", one.len());
                }
            }
        }
    }

    #[test]
    fn a_picture_has_its_size_and_clear_corners() {
        for sign in SIGNS {
            let Picture { size, rgba } = Picture::of(sign, 22);
            assert_eq!((size, rgba.len()), (22, 22 * 22 * 4));
            assert_eq!(rgba[3], 0, "{sign:?}");
            assert!(rgba.chunks(4).any(|pixel| pixel[3] == 255), "{sign:?}");
        }
    }
}
