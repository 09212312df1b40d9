package licensemetering;

import java.util.ArrayList;
import java.util.List;

/** Stands in for Client in tests: no network, no clock. It answers what it is told, and remembers what it was asked. */
public final class FakeClient implements Validator {
    private final List<String> asked = new ArrayList<>();
    private Result result;

    /**
     * A client that gives this result.
     *
     * @param result such as Result.valid("analytics")
     */
    public FakeClient(Result result) {
        this.result = result;
    }

    /**
     * Changes the answer.
     *
     * @param result the next answer
     */
    public synchronized void set(Result result) {
        this.result = result;
    }

    @Override
    public synchronized Result validate(String domain) {
        asked.add(domain);
        return result;
    }

    /**
     * What it was asked.
     *
     * @return the domains so far
     */
    public synchronized List<String> asked() {
        return List.copyOf(asked);
    }
}
