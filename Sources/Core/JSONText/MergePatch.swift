extension JSONValue {
  /// This value with a JSON Merge Patch (RFC 7396) applied: members of the patch replace members of
  /// the same name, null removes one, objects are merged, and everything else replaces the whole.
  /// Linear in both, but for members, which are looked up one after the other.
  package func merged(with patch: JSONValue) -> JSONValue {
    guard case .object(let changes) = patch else { return patch }
    var members = self.members ?? []
    for change in changes {
      let place = members.firstIndex { $0.name.bytes == change.name.bytes }
      if change.value == .null {
        if let place { members.remove(at: place) }
      } else if let place {
        members[place].value = members[place].value.merged(with: change.value)
      } else {
        members.append(
          JSONMember(name: change.name, value: JSONValue.null.merged(with: change.value)))
      }
    }
    return .object(members)
  }
}

extension JSONWriter {
  /// Writes a value as it was read, its numbers by their own characters. A lone surrogate, for
  /// which UTF-8 has no bytes, becomes U+FFFD.
  package mutating func value(_ value: JSONValue) {
    switch value {
    case .object(let members):
      beginObject()
      for member in members {
        name(String(decoding: member.name.bytes, as: UTF8.self))
        self.value(member.value)
      }
      endObject()
    case .array(let elements):
      beginArray()
      for element in elements { self.value(element) }
      endArray()
    case .string(let string): text(String(decoding: string.bytes, as: UTF8.self))
    case .number(let digits): raw(digits)
    case .bool(let flag): boolean(flag)
    case .null: null()
    }
  }
}
