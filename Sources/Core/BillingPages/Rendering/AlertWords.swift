/// Says in one sentence what an alert means.
package enum AlertWords {
  /// - Parameter member: returns a member of the alert's data as text; nil if it is absent.
  package static func summary(type: String, _ member: (String) -> String?) -> String {
    func number(_ name: String) -> String {
      member(name).map { text in Int64(text).map(Wording.number) ?? text } ?? "?"
    }
    switch type {
    case "license.limit_approaching", "license.limit_exceeded":
      return
        "It used \(number("used")) \(OverviewPage.unit(member("meter") ?? "api_calls")), "
        + "\(number("threshold_percent")) % or more of its limit of \(number("limit"))."
    case "license.expiring":
      return "It expires on \(day(member("expires_at")))."
    case "license.grace_started":
      return "It expired on \(day(member("expires_at"))) and is in its days of grace."
    case "license.expired":
      return "It expired on \(day(member("expires_at")))."
    case "license.suspicious_activity":
      return suspicion(member, number)
    case "usage.anomaly":
      return total(member, number)
    case "webhook.endpoint_disabled":
      return "The endpoint \(member("url") ?? member("endpoint_id") ?? "") was disabled: "
        + "\(member("reason") ?? "it failed for too long")."
    case "webhook.test":
      return "Somebody sent a test to an endpoint."
    default:
      return Wording.alert(type) + "."
    }
  }

  private static func suspicion(
    _ member: (String) -> String?, _ number: (String) -> String
  ) -> String {
    switch member("reason") {
    case "domain_mismatch":
      let bound = member("bound_domain").map { "; the closest of its own is \($0)" } ?? ""
      return "It was used on \(member("requested_domain") ?? "a domain"), which is not one of its "
        + "domains\(bound). Seen \(times(member("count")))."
    case "domain_spread":
      return "It was used on \(number("distinct_domains")) domains that are not its own within "
        + "\(span(member("window_seconds"))): the key may be public."
    case "burst":
      return "\(number("rate_per_minute")) calls a minute, where \(number("expected_per_minute")) "
        + "are usual for it at this time."
    case "canceled_use":
      return "It is \(member("status") ?? "canceled"), and validations go on: "
        + "\(times(member("count")))."
    case let reason:
      return "Suspicious activity: \(reason ?? "no reason given")."
    }
  }

  private static func total(
    _ member: (String) -> String?, _ number: (String) -> String
  ) -> String {
    let whose = member("customer_id").map { " of customer \($0)" } ?? ""
    let meter = "The total of \(OverviewPage.unit(member("meter") ?? "api_calls"))\(whose)"
    if member("status") == "ended" { return "\(meter) is as usual again." }
    switch member("direction") {
    case "stopped": return "\(meter) has stopped."
    case let direction:
      return "\(meter) is unusually \(direction ?? "far off"): "
        + "\(number("observed_per_minute")) a minute."
    }
  }

  /// `once`, `3 times`.
  private static func times(_ count: String?) -> String {
    guard let count = count.flatMap({ Int64($0) }) else { return "several times" }
    return count == 1 ? "once" : "\(Wording.number(count)) times"
  }

  /// `an hour`, `30 min`.
  private static func span(_ seconds: String?) -> String {
    guard let seconds = seconds.flatMap({ Int64($0) }), (0...10_000_000_000).contains(seconds)
    else { return "a short time" }
    return seconds == 3_600 ? "an hour" : Wording.duration(milliseconds: seconds * 1_000)
  }

  private static func day(_ time: String?) -> String { time.map { String($0.prefix(10)) } ?? "?" }
}
