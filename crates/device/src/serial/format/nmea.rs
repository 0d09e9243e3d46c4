//! NMEA 0183: `$GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E*62`.
//!
//! The names here are those of the quantities; what has no name is taken by its
//! sentence and the number of its word, `MWV.1`, or of one talker's, `IIMWV.1`.

use std::fmt::Write;

use reading::Kind;

use super::decimal::Decimal;
use super::{NotUnderstood, Scalar, unknown, value};
use crate::Batch;

/// More words than any sentence has: ten transducers of XDR, four words each.
const WORDS_MAX: usize = 48;
/// The most words that a channel can ask for.
const WORD_MAX: usize = WORDS_MAX - 1;
const KNOT: f64 = 1852.0 / 3600.0;

/// Takes the wanted fields out of sentences.
#[derive(Clone)]
pub(crate) struct Nmea {
    /// By channel.
    wanted: Vec<Wanted>,
}

#[derive(Clone)]
struct Wanted {
    field: Field,
    kind: Kind,
    /// Several sentences say the same; only the best that has come is listened
    /// to, so that nothing is read twice.
    rank: usize,
}

#[derive(Clone)]
enum Field {
    Named(&'static Named),
    Time,
    /// `MWV.1`, `IIMWV.1`, `PGRMZ.1`: the sentence's end and the word.
    Word(String, usize),
    /// `XDR.NAME`: the datum of the transducer with that name.
    Transducer(String),
}

/// A field with a name, and where it stands, the best first.
struct Named {
    name: &'static str,
    sources: &'static [Source],
}

/// A sentence, and how the field is taken out of it; `None` when the sentence
/// leaves it out or says itself that it isn't valid.
type Source = (&'static str, fn(&Words<'_>) -> Option<f64>);

const fn named(name: &'static str, sources: &'static [Source]) -> Named {
    Named { name, sources }
}

/// NMEA 0183, version 4.11, "Approved sentences". Angles are in degrees, speeds in
/// metres a second whatever the sentence has, north and east are positive.
static NAMED: &[Named] = &[
    named(
        "latitude",
        &[
            ("GGA", |s| s.fixed(6)?.degrees(2)),
            ("GNS", |s| s.ranged()?.degrees(2)),
            ("RMC", |s| s.active(2)?.degrees(3)),
            ("GLL", |s| s.active(6)?.degrees(1)),
        ],
    ),
    named(
        "longitude",
        &[
            ("GGA", |s| s.fixed(6)?.degrees(4)),
            ("GNS", |s| s.ranged()?.degrees(4)),
            ("RMC", |s| s.active(2)?.degrees(5)),
            ("GLL", |s| s.active(6)?.degrees(3)),
        ],
    ),
    named("altitude", &[("GGA", |s| s.fixed(6)?.number(9)), ("GNS", |s| s.ranged()?.number(9))]),
    named(
        "speed",
        &[
            ("RMC", |s| Some(s.active(2)?.number(7)? * KNOT)),
            ("VTG", |s| Some(s.number(5)? * KNOT)),
        ],
    ),
    named("course", &[("RMC", |s| s.active(2)?.number(8)), ("VTG", |s| s.number(1))]),
    named("fix", &[("GGA", |s| s.number(6))]),
    named("fix_mode", &[("GSA", |s| s.number(2))]),
    named("satellites", &[("GGA", |s| s.number(7)), ("GNS", |s| s.number(7))]),
    named("pdop", &[("GSA", |s| s.placed()?.number(15))]),
    named("hdop", &[("GGA", |s| s.fixed(6)?.number(8)), ("GSA", |s| s.placed()?.number(16))]),
    named("vdop", &[("GSA", |s| s.placed()?.number(17))]),
    named("geoid", &[("GGA", |s| s.fixed(6)?.number(11))]),
    named("variation", &[("RMC", |s| s.signed(10, "E", "W")), ("HDG", |s| s.signed(4, "E", "W"))]),
    named("heading", &[("HDT", |s| s.number(1))]),
    named("heading_magnetic", &[("HDG", |s| s.number(1)), ("HDM", |s| s.number(1))]),
    named("rate_of_turn", &[("ROT", |s| s.active(2)?.number(1))]),
    named("depth", &[("DPT", |s| s.number(1)), ("DBT", |s| s.number(3))]),
    named("water_speed", &[("VHW", |s| Some(s.number(5)? * KNOT))]),
    named("water_temperature", &[("MTW", |s| s.number(1))]),
    named("wind_angle", &[("MWV", |s| s.wind("R")?.number(1))]),
    named("wind_speed", &[("MWV", |s| s.wind("R")?.speed(3))]),
    named("true_wind_angle", &[("MWV", |s| s.wind("T")?.number(1))]),
    named("true_wind_speed", &[("MWV", |s| s.wind("T")?.speed(3))]),
];

/// UTC, the only text: `2026-11-24T08:20:03Z`.
const TIME: &str = "time";

impl Nmea {
    /// A field for each channel, in order.
    ///
    /// # Errors
    /// With the place of the channel whose field isn't one.
    pub(crate) fn new(fields: &[(String, Kind)]) -> Result<Nmea, (usize, String)> {
        let mut wanted = Vec::new();
        for (place, (name, kind)) in fields.iter().enumerate() {
            let field = field(name).map_err(|message| (place, message))?;
            wanted.push(Wanted { field, kind: *kind, rank: usize::MAX });
        }
        Ok(Nmea { wanted })
    }

    /// One line. Its beginning and its end are shown by `$` and the check sum, so
    /// that what a lost line end left before it does no harm.
    pub(super) fn parse(&mut self, line: &[u8], batch: &mut Batch) -> Result<(), NotUnderstood> {
        let start = memchr::memrchr2(b'$', b'!', line).ok_or(NotUnderstood)?;
        let sentence = std::str::from_utf8(&line[start + 1..]).map_err(|_| NotUnderstood)?;
        let sentence = Words::of(sentence).ok_or(NotUnderstood)?;
        for (channel, wanted) in self.wanted.iter_mut().enumerate() {
            match &wanted.field {
                Field::Time => {
                    if let Some(time) = sentence.time() {
                        batch.push(channel, value(wanted.kind, Scalar::Text(&time)));
                    }
                }
                Field::Named(named) => {
                    let is = |(end, _): &Source| sentence.is(end);
                    let Some(rank) = named.sources.iter().position(is) else { continue };
                    if rank <= wanted.rank
                        && let Some(number) = named.sources[rank].1(&sentence)
                    {
                        wanted.rank = rank;
                        batch.push(channel, value(wanted.kind, Scalar::Number(number)));
                    }
                }
                Field::Word(end, word) if sentence.is(end) && !sentence.word(*word).is_empty() => {
                    let text = Scalar::Text(sentence.word(*word));
                    batch.push(channel, value(wanted.kind, text));
                }
                Field::Transducer(name) if sentence.is("XDR") => {
                    for first in (1..sentence.count).step_by(4) {
                        if sentence.word(first + 3) == name && !sentence.word(first + 1).is_empty()
                        {
                            let text = Scalar::Text(sentence.word(first + 1));
                            batch.push(channel, value(wanted.kind, text));
                        }
                    }
                }
                Field::Word(..) | Field::Transducer(_) => {}
            }
        }
        Ok(())
    }
}

/// The fields that have names.
fn names() -> impl Iterator<Item = &'static str> {
    NAMED.iter().map(|named| named.name).chain([TIME])
}

/// What a channel's `field` means.
fn field(name: &str) -> Result<Field, String> {
    if name == TIME {
        return Ok(Field::Time);
    }
    if let Some(named) = NAMED.iter().find(|named| named.name == name) {
        return Ok(Field::Named(named));
    }
    if let Some((sentence, word)) = name.split_once('.') {
        let is_sentence = (3..=8).contains(&sentence.len())
            && sentence.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
        match word.parse() {
            Ok(word @ 1..=WORD_MAX) if is_sentence => {
                return Ok(Field::Word(sentence.to_owned(), word));
            }
            Err(_) if sentence == "XDR" && !word.is_empty() => {
                return Ok(Field::Transducer(word.to_owned()));
            }
            _ => {}
        }
    }
    Err(unknown(name, names(), "a word of a sentence such as `MWV.1`, or `XDR.NAME`"))
}

/// A sentence whose check sum is right.
struct Words<'a> {
    words: [&'a str; WORDS_MAX],
    count: usize,
}

impl<'a> Words<'a> {
    /// What follows the `$`. Section 5.3: the check sum is the XOR of everything
    /// between `$` and `*`.
    fn of(sentence: &'a str) -> Option<Words<'a>> {
        let (body, sum) = sentence.split_once('*')?;
        let sum = sum.trim_ascii_end();
        let is_hex = sum.len() == 2 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        let expected = u8::from_str_radix(sum, 16).ok().filter(|_| is_hex)?;
        if body.bytes().fold(0, |sum, byte| sum ^ byte) != expected {
            return None;
        }
        let mut words = Words { words: [""; WORDS_MAX], count: 0 };
        for word in body.split(',') {
            *words.words.get_mut(words.count)? = word;
            words.count += 1;
        }
        Some(words)
    }

    fn word(&self, number: usize) -> &'a str {
        self.words.get(number).copied().unwrap_or_default()
    }

    /// Whether it is this sentence: of a talker with two letters, or just so.
    fn is(&self, sentence: &str) -> bool {
        let address = self.word(0);
        address == sentence
            || (address.len() == 5
                && !address.starts_with('P')
                && address.get(2..) == Some(sentence))
    }

    fn number(&self, word: usize) -> Option<f64> {
        Decimal::parse(self.word(word)).map(Decimal::to_f64)
    }

    /// A position: `3751.65,S` is 37° 51.65′ south.
    fn degrees(&self, word: usize) -> Option<f64> {
        let angle = self.word(word);
        let degrees = angle.find('.').unwrap_or(angle.len()).checked_sub(2)?;
        let (degrees, minutes) = angle.split_at_checked(degrees)?;
        // A receiver may leave leading zeroes out.
        let degrees: u8 = if degrees.is_empty() { 0 } else { degrees.parse().ok()? };
        let minutes = Decimal::parse(minutes)?.to_f64();
        let angle = f64::from(degrees) + minutes / 60.0;
        (degrees <= 180 && (0.0..60.0).contains(&minutes)).then_some(())?;
        match self.word(word + 1) {
            "N" | "E" => Some(angle),
            "S" | "W" => Some(-angle),
            _ => None,
        }
    }

    /// A number whose sign is a letter in the next word.
    fn signed(&self, word: usize, plus: &str, minus: &str) -> Option<f64> {
        let number = self.number(word)?;
        match self.word(word + 1) {
            sign if sign == plus => Some(number),
            sign if sign == minus => Some(-number),
            _ => None,
        }
    }

    /// A speed whose unit is the next word.
    fn speed(&self, word: usize) -> Option<f64> {
        let factor = match self.word(word + 1) {
            "N" => KNOT,
            "K" => 1000.0 / 3600.0,
            "M" => 1.0,
            "S" => 1609.344 / 3600.0,
            _ => return None,
        };
        Some(self.number(word)? * factor)
    }

    /// Of GGA: without a fix the position is the last one, or none.
    fn fixed(&self, quality: usize) -> Option<&Words<'a>> {
        self.number(quality).filter(|quality| *quality != 0.0).map(|_| self)
    }

    /// Of GSA: 1 is no fix, with a dilution of 99.99.
    fn placed(&self) -> Option<&Words<'a>> {
        (self.word(2) != "1").then_some(self)
    }

    /// Of GNS: a letter for each system, N for one that isn't used.
    fn ranged(&self) -> Option<&Words<'a>> {
        self.word(6).bytes().any(|mode| mode != b'N').then_some(self)
    }

    /// A is valid, V a warning.
    fn active(&self, status: usize) -> Option<&Words<'a>> {
        (self.word(status) == "A").then_some(self)
    }

    /// Of MWV: relative or true, and valid.
    fn wind(&self, reference: &str) -> Option<&Words<'a>> {
        (self.word(2) == reference).then_some(self)?.active(5)
    }

    /// Of RMC and ZDA, once the receiver knows it.
    fn time(&self) -> Option<String> {
        let pair = |text: &'a str, at: usize| {
            text.get(at..at + 2).filter(|two| two.bytes().all(|byte| byte.is_ascii_digit()))
        };
        let mut time = String::new();
        if self.is("RMC") {
            let date = self.word(9);
            let (day, month, year) = (pair(date, 0)?, pair(date, 2)?, pair(date, 4)?);
            let century = if year < "80" { "20" } else { "19" };
            write!(time, "{century}{year}-{month}-{day}").ok()?;
        } else if self.is("ZDA") {
            let (day, month) = (pair(self.word(2), 0)?, pair(self.word(3), 0)?);
            let year = self.word(4);
            let (century, year) = (pair(year, 0)?, pair(year, 2)?);
            write!(time, "{century}{year}-{month}-{day}").ok()?;
        } else {
            return None;
        }
        let of = self.word(1);
        let (hour, minute, second) = (pair(of, 0)?, pair(of, 2)?, pair(of, 4)?);
        write!(time, "T{hour}:{minute}:{second}Z").ok()?;
        Some(time)
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use proptest::prelude::*;

    use super::super::tests::{fields, listed};
    use super::*;

    /// Every field of each sentence on its own.
    fn said(sentences: &[&str]) -> String {
        let more = ["TXT.4", "PGRMZ.1", "GPGSV.3", "MWV.1", "IIMWV.1", "XDR.TempAir"];
        let fields = fields(names().chain(more), &[TIME, "TXT.4"]);
        let mut all = String::new();
        for sentence in sentences {
            let mut nmea = Nmea::new(&fields).unwrap();
            all += &format!("{sentence}\n");
            let parse = |batch: &mut Batch| nmea.parse(sentence.as_bytes(), batch);
            let listed = listed(&fields, parse);
            all.extend(listed.lines().map(|line| format!("  {line}\n")));
        }
        all
    }

    /// "NMEA Reference Manual" of SiRF, "u-blox 8 / M8 Receiver description,
    /// including protocol specification", section 31.2, and the examples of
    /// "NMEA Revealed" (gpsd) with the marine ones.
    #[test]
    fn what_sentences_say() {
        expect![[r#"
            $GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47
              latitude = 48.1173
              longitude = 11.516666666666667
              altitude = 545.4
              fix = 1
              satellites = 8
              hdop = 0.9
              geoid = 46.9
            $GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E*62
              latitude = -37.86083333333333
              longitude = 145.12266666666667
              speed = 0
              course = 360
              variation = 11.3
              time = "1998-09-13T08:18:36Z"
            $GNRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A,V*33
              latitude = 47.2852395
              longitude = 8.565253666666667
              speed = 0.002057777777777778
              course = 77.52
              time = "2002-12-09T08:35:59Z"
            $GNGNS,103600.01,5114.51176,N,00012.29380,W,ANNN,07,1.18,111.5,45.6,,,V*00
              latitude = 51.24186266666667
              longitude = -0.20489666666666664
              altitude = 111.5
              satellites = 7
            $GPGLL,4916.45,N,12311.12,W,225444,A*31
              latitude = 49.274166666666666
              longitude = -123.18533333333333
            $GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48
              speed = 2.8294444444444444
              course = 54.7
            $GNGSA,A,3,80,71,73,79,69,,,,,,,,1.83,1.09,1.47*17
              fix_mode = 3
              pdop = 1.83
              hdop = 1.09
              vdop = 1.47
            $GPZDA,201530.00,04,07,2002,00,00*60
              time = "2002-07-04T20:15:30Z"
            $GPTXT,01,01,02,u-blox ag - www.u-blox.com*50
              TXT.4 = "u-blox ag - www.u-blox.com"
            $SDDBT,7.7,f,2.3,M,1.3,F*05
              depth = 2.3
            $SDDPT,2.3,0.0*56
              depth = 2.3
            $WIMWV,214.8,R,0.1,K,A*28
              wind_angle = 214.8
              wind_speed = 0.02777777777777778
              MWV.1 = 214.8
            $WIMWV,320,T,15.0,M,A*0D
              true_wind_angle = 320
              true_wind_speed = 15
              MWV.1 = 320
            $INMTW,17.9,C*1B
              water_temperature = 17.9
            $HEHDT,274.07,T*19
              heading = 274.07
            $HCHDG,101.1,,,7.1,W*3C
              variation = -7.1
              heading_magnetic = 101.1
            $IIVHW,,T,207.0,M,2.31,N,,K*60
              water_speed = 1.1883666666666668
            $TIROT,35.6,A*0B
              rate_of_turn = 35.6
            $IIXDR,C,19.52,C,TempAir*19
              XDR.TempAir = 19.52
            $PGRMZ,93,f,3*21
              PGRMZ.1 = 93
        "#]]
        .assert_eq(&said(&[
            "$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47",
            "$GPRMC,081836,A,3751.65,S,14507.36,E,000.0,360.0,130998,011.3,E*62",
            "$GNRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A,V*33",
            "$GNGNS,103600.01,5114.51176,N,00012.29380,W,ANNN,07,1.18,111.5,45.6,,,V*00",
            "$GPGLL,4916.45,N,12311.12,W,225444,A*31",
            "$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48",
            "$GNGSA,A,3,80,71,73,79,69,,,,,,,,1.83,1.09,1.47*17",
            "$GPZDA,201530.00,04,07,2002,00,00*60",
            "$GPTXT,01,01,02,u-blox ag - www.u-blox.com*50",
            "$SDDBT,7.7,f,2.3,M,1.3,F*05",
            "$SDDPT,2.3,0.0*56",
            "$WIMWV,214.8,R,0.1,K,A*28",
            "$WIMWV,320,T,15.0,M,A*0D",
            "$INMTW,17.9,C*1B",
            "$HEHDT,274.07,T*19",
            "$HCHDG,101.1,,,7.1,W*3C",
            "$IIVHW,,T,207.0,M,2.31,N,,K*60",
            "$TIROT,35.6,A*0B",
            "$IIXDR,C,19.52,C,TempAir*19",
            "$PGRMZ,93,f,3*21",
        ]));
    }

    /// "GPS-Modul mit u-blox NEO-6M": what one says before it has a fix. There is
    /// no position in it, and none is made up.
    #[test]
    fn a_receiver_without_a_fix_says_only_that() {
        expect![[r#"
            $GPRMC,,V,,,,,,,,,,N*53
            $GPVTG,,,,,,,,,N*30
            $GPGGA,,,,,,0,00,99.99,,,,,,*48
              fix = 0
              satellites = 0
            $GPGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99*30
              fix_mode = 1
            $GPGLL,,,,,,V,N*64
        "#]]
        .assert_eq(&said(&[
            "$GPRMC,,V,,,,,,,,,,N*53",
            "$GPVTG,,,,,,,,,N*30",
            "$GPGGA,,,,,,0,00,99.99,,,,,,*48",
            "$GPGSA,A,1,,,,,,,,,,,,,99.99,99.99,99.99*30",
            "$GPGLL,,,,,,V,N*64",
        ]));
    }

    fn numbers(lines: &[&str], field: &str) -> Vec<Option<f64>> {
        let mut nmea = Nmea::new(&[(field.to_owned(), Kind::Number)]).unwrap();
        let mut batch = Batch::default();
        for line in lines {
            _ = nmea.parse(line.as_bytes(), &mut batch);
        }
        batch.samples.into_iter().map(|sample| sample.value.number()).collect()
    }

    #[test]
    fn of_sentences_that_say_the_same_only_the_best_is_read() {
        let (rmc, vtg) = (
            "$GNRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A,V*33",
            "$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48",
        );
        // Until it is known which come, one is too many rather than too few.
        let course = [vtg, rmc, vtg, rmc];
        assert_eq!(numbers(&course, "course"), [Some(54.7), Some(77.52), Some(77.52)]);
        assert_eq!(numbers(&[vtg, vtg], "course"), [Some(54.7), Some(54.7)]);
    }

    #[test]
    fn a_wrong_check_sum_or_none_is_not_understood() {
        let mut nmea = Nmea::new(&[("heading".to_owned(), Kind::Number)]).unwrap();
        let mut parse = |line: &str| nmea.parse(line.as_bytes(), &mut Batch::default());
        assert_eq!(parse("$GP$HEHDT,274.07,T*19"), Ok(()));
        for line in [
            "$HEHDT,274.07,T*18",
            "$HEHDT,274.07,T",
            "$HEHDT,274.07,T*",
            "$HEHDT,274.07,T*1",
            "$HEHDT,274.07,T*+9",
            "HEHDT,274.07,T*19",
            "",
            "$",
        ] {
            assert_eq!(parse(line), Err(NotUnderstood), "{line}");
        }
    }

    #[test]
    fn a_field_that_is_none_says_which_was_meant() {
        let wrong = |field: &str| Nmea::new(&[(field.to_owned(), Kind::Number)]).err().unwrap();
        assert_eq!(
            wrong("lattitude"),
            (0, "unknown field \"lattitude\"; did you mean \"latitude\"?".to_owned())
        );
        for field in ["", "MWV", "MWV.0", "MWV.48", "mwv.1", "M.1", "XDR.", "MWV.x"] {
            assert_eq!(wrong(field).0, 0, "{field}");
        }
    }

    proptest! {
        /// Whatever a line is with the right sum, and without: no panic, and no
        /// position off the earth.
        #[test]
        fn no_sentence_can_stop_it(body in "(GPGGA|GPRMC|IIXDR|é[A-Z]{3})(,[0-9A-Z.é-]{0,9}){0,50}") {
            let sum = body.bytes().fold(0, |sum, byte| sum ^ byte);
            let line = format!("${body}*{sum:02X}");
            for found in numbers(&[&line, &body], "latitude") {
                prop_assert!((-181.0..=181.0).contains(&found.unwrap()));
            }
        }
    }
}
