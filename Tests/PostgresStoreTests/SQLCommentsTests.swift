import Testing

@Suite struct SQLCommentsTests {
  @Test func `Comments leave neither blank lines nor trailing spaces behind`() {
    let commented = """
      -- What it does,
      -- in two lines.
      begin  -- It begins.
        /* A block /* within a block */
           over two lines. */
        select a /* the first */ - 1, b--the second
          from t;

      end /* of it */
      """
    let plain = "begin\n  select a - 1, b\n    from t;\nend\n"
    #expect(SQLComments.removed(from: commented) == plain)
    #expect(SQLComments.removed(from: plain) == plain)
  }

  @Test(
    "Text in quotes is not a comment",
    arguments: [
      "select '-- it''s no comment', 1;\n", "select '/* nor */ this', 'it''s -- this';\n",
      "select E'it\\'s -- a string', e'\\\\', 'e';\n", "select type'\\', '--';\n",
      "select \"a -- b\", \"a \"\"/* b\" from t;\n", "select '\n  -- a line of it  \n\n', 1;\n",
    ])
  func quotes(_ sql: String) {
    #expect(SQLComments.removed(from: sql) == sql)
    #expect(SQLComments.removed(from: sql + "-- It's a comment.\n") == sql)
  }

  @Test(
    "A difference outside of comments is still seen",
    arguments: [
      ("select 1; -- one", "select 2; -- one"), ("select a - -1;", "select a;"),
      ("select '--a';", "select '--b';"), ("select a /* b */ c;", "select ac;"),
      ("select 'a\n\nb';", "select 'a\nb';"), ("select 'a ';", "select 'a';"),
      ("-- a\nselect 1;", "-- a select 1;"), ("select \"--\", 1;", "select \"--\", 2;"),
    ])
  func differences(_ one: String, _ other: String) {
    #expect(SQLComments.removed(from: one) != SQLComments.removed(from: other))
  }
}
