extension JSONValue {
  /// This value with a JSON Merge Patch (RFC 7396) applied. Members of the patch replace members of
  /// the same name, null removes a member, and objects are merged. Any other value replaces the
  /// whole. The time is linear in both values, except that each member is searched for one by one.
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
  /// Writes a value as it was read, with the original characters of its numbers. A lone surrogate
  /// becomes U+FFFD, because UTF-8 has no bytes for it.
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
