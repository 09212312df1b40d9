/// One setting of a program, declared once: its variable, its default, its values, and one sentence
/// for the person who sets it. Programs read it, `--help` prints it, and docs/configuration.md is
/// generated from it.
package struct Setting<Value: Sendable>: Sendable {
  package let declaration: SettingDeclaration
  private let reading: @Sendable (Settings) throws(ConfigurationError) -> Value

  init(
    _ declaration: SettingDeclaration,
    reading: @escaping @Sendable (Settings) throws(ConfigurationError) -> Value
  ) {
    self.declaration = declaration
    self.reading = reading
  }

  package var name: String { declaration.name }

  fileprivate func read(_ settings: Settings) throws(ConfigurationError) -> Value {
    try reading(settings)
  }
}

/// The description of a setting for people.
package struct SettingDeclaration: Sendable, Equatable {
  package let name: String
  /// The default as it would be written in the environment; nil if the setting is required, or
  /// absent by default.
  package let defaultText: String?
  package let isRequired: Bool
  /// `1 to 8192`, `true or false`, `a path`.
  package let values: String
  /// One sentence.
  package let help: String

  /// The default as a table shows it.
  package var shownDefault: String { defaultText ?? (isRequired ? "required" : "none") }
}

extension Settings {
  /// The value of a declared setting.
  package subscript<Value>(_ setting: Setting<Value>) -> Value {
    get throws(ConfigurationError) { try setting.read(self) }
  }
}

extension Setting where Value == Int {
  /// A decimal integer.
  static func integer(
    _ name: String, default: Int, in range: ClosedRange<Int>, _ help: String
  ) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: "\(`default`)", isRequired: false,
        values: "\(range.lowerBound) to \(range.upperBound)", help: help)
    ) { settings throws(ConfigurationError) in
      try settings.integer(name, default: `default`, in: range)
    }
  }

  /// A duration; default, range and value are in milliseconds.
  static func duration(
    _ name: String, default: Int, in range: ClosedRange<Int>, _ help: String
  ) -> Setting {
    let lowest = Settings.durationText(range.lowerBound)
    let highest = Settings.durationText(range.upperBound)
    return Setting(
      SettingDeclaration(
        name: name, defaultText: Settings.durationText(`default`), isRequired: false,
        values: "\(lowest) to \(highest)", help: help)
    ) { settings throws(ConfigurationError) in
      try settings.milliseconds(name, default: `default`, in: range)
    }
  }
}

extension Setting where Value == Int? {
  /// A decimal integer, or nothing.
  static func optionalInteger(
    _ name: String, in range: ClosedRange<Int>, _ help: String
  ) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: nil, isRequired: false,
        values: "\(range.lowerBound) to \(range.upperBound)", help: help)
    ) { settings throws(ConfigurationError) in
      guard try settings.optionalString(name) != nil else { return nil }
      return try settings.integer(name, default: range.lowerBound, in: range)
    }
  }
}

extension Setting where Value == Bool {
  static func boolean(_ name: String, default: Bool, _ help: String) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: "\(`default`)", isRequired: false, values: "true or false",
        help: help)
    ) { settings throws(ConfigurationError) in
      try settings.boolean(name, default: `default`)
    }
  }
}

extension Setting where Value == String {
  static func required(
    _ name: String, values: String, _ help: String,
    check: @escaping @Sendable (String) throws(ConfigurationError) -> Void = { _ in }
  ) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: nil, isRequired: true, values: values, help: help)
    ) { settings throws(ConfigurationError) in
      let value = try settings.required(name)
      try check(value)
      return value
    }
  }

  static func text(_ name: String, default: String, values: String, _ help: String) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: `default`.isEmpty ? nil : `default`, isRequired: false,
        values: values, help: help)
    ) { settings throws(ConfigurationError) in
      try settings.string(name, default: `default`)
    }
  }
}

extension Setting where Value == String? {
  static func optional(
    _ name: String, values: String, _ help: String,
    check: @escaping @Sendable (String) throws(ConfigurationError) -> Void = { _ in }
  ) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: nil, isRequired: false, values: values, help: help)
    ) { settings throws(ConfigurationError) in
      let value = try settings.optionalString(name)
      if let value { try check(value) }
      return value
    }
  }
}

extension Setting where Value == BindAddress {
  static func address(_ name: String, default: String, _ help: String) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: `default`, isRequired: false, values: "host:port", help: help)
    ) { settings throws(ConfigurationError) in
      try settings.address(name, default: `default`)
    }
  }
}

extension Setting where Value: RawRepresentable<String> & CaseIterable {
  static func choice(_ name: String, default: Value, _ help: String) -> Setting {
    let cases = Value.allCases.map(\.rawValue)
    return Setting(
      SettingDeclaration(
        name: name, defaultText: `default`.rawValue, isRequired: false,
        values: cases.joined(separator: ", "), help: help)
    ) { settings throws(ConfigurationError) in
      try settings.choice(name, default: `default`)
    }
  }
}

extension Setting where Value == String {
  /// One of a few words. A program that has its own type for them reads it with `as`.
  static func oneOf(
    _ name: String, default: String, _ words: [String], _ help: String
  ) -> Setting {
    Setting(
      SettingDeclaration(
        name: name, defaultText: `default`, isRequired: false,
        values: words.joined(separator: ", "), help: help)
    ) { settings throws(ConfigurationError) in
      let text = try settings.string(name, default: `default`)
      guard words.contains(where: { $0.utf8.elementsEqual(text.utf8) }) else {
        throw ConfigurationError("\(name) must be one of \(words.joined(separator: ", "))")
      }
      return text
    }
  }
}

extension Settings {
  /// The value of a declared setting as a type that has a case for each of its words.
  package func value<T: RawRepresentable<String>>(
    of setting: Setting<String>, as type: T.Type
  ) throws(ConfigurationError) -> T {
    guard let value = T(rawValue: try self[setting]) else {
      throw ConfigurationError("\(setting.name) must be one of \(setting.declaration.values)")
    }
    return value
  }
}
