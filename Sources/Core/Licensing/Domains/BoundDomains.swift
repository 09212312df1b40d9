/// The domains that a license is valid for. `example.com` is only that name. `*.example.com` is
/// every name below it, but not the name itself.
public struct BoundDomains: Sendable, Equatable {
  /// Why a license cannot be bound to a domain.
  public enum Refusal: Error, Sendable, Equatable, CustomStringConvertible {
    case notADomain
    case publicSuffix
    case addressWildcard

    /// One sentence, without the domain.
    public var description: String {
      switch self {
      case .notADomain:
        "not a domain name such as example.com or *.example.com, without scheme and path"
      case .publicSuffix:
        "a public suffix, under which anybody may register a name, so use a domain below it"
      case .addressWildcard: "an address cannot have a wildcard"
      }
    }
  }

  private struct Pattern: Sendable, Equatable {
    /// The name without `*.`.
    var name: String
    var isWildcard: Bool
    /// The suffix of names that a wildcard covers, such as `.example.com`.
    var suffix: String
  }

  private var patterns: [Pattern] = []

  /// A domain that cannot be bound covers nothing and is left out. A license from another vendor
  /// may contain one, and it must not be valid for a whole registry.
  public init(_ domains: [String], rules: some DomainNameRules) {
    for domain in domains {
      // It is left out for any refusal (see above).
      if let pattern = try? Self.pattern(domain, rules: rules) { patterns.append(pattern) }
    }
  }

  /// The spelling of a domain that is stored.
  /// - Throws: `Refusal`.
  public static func normalized(
    _ domain: String, rules: some DomainNameRules
  ) throws(Refusal) -> String {
    let pattern = try pattern(domain, rules: rules)
    return pattern.isWildcard ? "*." + pattern.name : pattern.name
  }

  private static func pattern(
    _ domain: String, rules: some DomainNameRules
  ) throws(Refusal) -> Pattern {
    let isWildcard = domain.hasPrefix("*.")
    guard let name = DomainName(isWildcard ? String(domain.dropFirst(2)) : domain, rules: rules)
    else { throw .notADomain }
    if name.isAddress {
      if isWildcard { throw .addressWildcard }
    } else if rules.isPublicSuffix(name.description) {
      throw .publicSuffix
    }
    return Pattern(
      name: name.description, isWildcard: isWildcard, suffix: "." + name.description)
  }

  /// The names as they are stored, without those that cannot be bound.
  public var names: [String] { patterns.map { $0.isWildcard ? "*." + $0.name : $0.name } }

  /// Whether the license is valid for the domain.
  public func covers(_ domain: DomainName) -> Bool {
    patterns.contains { pattern in
      pattern.isWildcard
        ? !domain.isAddress && domain.description.utf8.count > pattern.suffix.utf8.count
          && domain.description.hasSuffix(pattern.suffix)
        : domain.description == pattern.name
    }
  }

  /// The bound domain that was probably meant. It has the most labels in common from the right. If
  /// several have, it is the first. Nil if none is bound.
  public func closest(to domain: DomainName) -> String? {
    let labels = domain.description.split(separator: ".").reversed()
    var best: (pattern: Pattern, common: Int)?
    for pattern in patterns {
      let own = pattern.name.split(separator: ".").reversed()
      let common = zip(labels, own).prefix { $0 == $1 }.count
      if best == nil || common > best!.common { best = (pattern, common) }
    }
    return best.map { $0.pattern.isWildcard ? "*." + $0.pattern.name : $0.pattern.name }
  }
}
