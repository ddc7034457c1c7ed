//! `dhcpV4Options` and `dhcpV6Options` of a Subnet: `name=value,name=value`.

use atoll_model::DhcpOptions;

/// The one option for which kube-ovn has `;` between several values.
const SEMICOLONS: &str = "dns_server";

/// The options that a text means, or what is wrong with it. Whether OVN knows them is the store's
/// to say.
pub(super) fn parse(text: &str) -> Result<DhcpOptions, String> {
    let mut options = DhcpOptions::new();
    for part in parts(text).into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) =
            part.split_once('=').ok_or_else(|| format!("{part:?} is no name=value"))?;
        let (name, value) = (name.trim(), value.trim());
        if name.is_empty() || value.is_empty() {
            return Err(format!("{part:?} is no name=value"));
        }
        let value = match name == SEMICOLONS && value.contains(';') {
            // OVN takes several in braces only.
            true => {
                let bare = value.trim_start_matches('{').trim_end_matches('}');
                format!("{{{}}}", bare.replace(';', ","))
            }
            false => value.to_owned(),
        };
        if options.insert(name.to_owned(), value).is_some() {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(options)
}

/// What stands between the commas that are neither in braces nor in quotes.
fn parts(text: &str) -> Vec<&str> {
    let (mut quoted, mut depth) = (false, 0_usize);
    let is_comma = |it: char| {
        match it {
            '"' => quoted = !quoted,
            '{' if !quoted => depth = depth.saturating_add(1),
            '}' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
        it == ',' && !quoted && depth == 0
    };
    text.split(is_comma).collect()
}

/// The text that means these options.
pub(super) fn text(options: &DhcpOptions) -> String {
    let options = options.iter().map(|(name, value)| format!("{name}={value}"));
    options.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_comes_back_in_order_of_names() {
        for (written, shown) in [
            ("", ""),
            (" server_id = 10.0.0.1 , lease_time=60 ", "lease_time=60,server_id=10.0.0.1"),
            ("dns_server=8.8.8.8;8.8.4.4", "dns_server={8.8.8.8,8.8.4.4}"),
            ("dns_server={8.8.8.8;8.8.4.4},mtu=1400", "dns_server={8.8.8.8,8.8.4.4},mtu=1400"),
            ("domain_search_list=\"a.b,c.d\",mtu=1400", "domain_search_list=\"a.b,c.d\",mtu=1400"),
        ] {
            let options = parse(written).unwrap();
            assert_eq!(text(&options), shown);
            assert_eq!(parse(shown).unwrap(), options);
        }
    }

    #[test]
    fn what_is_no_pair_is_named() {
        for (written, rule) in [
            ("lease_time", "\"lease_time\" is no name=value"),
            ("mtu=", "\"mtu=\" is no name=value"),
            ("mtu=1,mtu=2", "mtu is given twice"),
        ] {
            assert_eq!(parse(written).unwrap_err(), rule);
        }
    }
}
