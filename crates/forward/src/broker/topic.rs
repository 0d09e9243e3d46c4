//! Topics and filters (MQTT 3.1.1 and 5, section 4.7).

/// Whether a filter may be subscribed to.
pub(crate) fn is_filter(filter: &str) -> bool {
    let mut levels = filter.split('/').peekable();
    let mut valid = !filter.is_empty() && !filter.contains('\0');
    while let Some(level) = levels.next() {
        valid &= match level {
            "#" => levels.peek().is_none(),
            "+" => true,
            other => !other.contains(['#', '+']),
        };
    }
    valid
}

/// Whether a topic may be published to.
pub(crate) fn is_topic(topic: &str) -> bool {
    !topic.is_empty() && !topic.contains(['#', '+', '\0'])
}

/// Whether a topic is among those of a filter.
pub(crate) fn matches(filter: &str, topic: &str) -> bool {
    // 4.7.2: wildcards at the beginning don't see the server's own topics.
    if topic.starts_with('$') && filter.starts_with(['#', '+']) {
        return false;
    }
    let (mut filter, mut topic) = (filter.split('/'), topic.split('/'));
    loop {
        match (filter.next(), topic.next()) {
            // `#` stands for the parent level, too.
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => (),
            (Some(wanted), Some(level)) if wanted == level => (),
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_standard() {
        for (filter, topic, expected) in [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("sport/tennis/+", "sport/tennis/player1", true),
            ("sport/tennis/+", "sport/tennis/player1/ranking", false),
            ("sport/+", "sport", false),
            ("sport/+", "sport/", true),
            ("+/+", "/finance", true),
            ("/+", "/finance", true),
            ("+", "/finance", false),
            ("#", "$SYS/a", false),
            ("+/monitor", "$SYS/monitor", false),
            ("$SYS/#", "$SYS/a", true),
            ("ä/+", "ä/b", true),
        ] {
            assert_eq!(matches(filter, topic), expected, "{filter} {topic}");
        }
    }

    #[test]
    fn filters_and_topics_are_checked() {
        for filter in ["#", "+", "a/+/b/#", "/", "+/#"] {
            assert!(is_filter(filter), "{filter}");
        }
        for filter in ["", "a#", "#/a", "a/+b", "a/\0"] {
            assert!(!is_filter(filter), "{filter:?}");
        }
        assert!(is_topic("a/b") && !is_topic("a/+") && !is_topic("") && !is_topic("#"));
    }
}
