package licensemetering;

/** What middleware needs of a client; Client and FakeClient have it. */
@FunctionalInterface
public interface Validator {
    /**
     * Whether the license holds for a domain. A "no" is a result and no exception.
     *
     * @param domain where the application runs
     * @return the verdict
     */
    Result validate(String domain);
}
